#include "pipelines/each/dispatcher.h"

#include <poll.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <utility>

#include "harness/os/clock.h"
#include "harness/os/pidfd.h"
#include "pipelines/each/items.h"

namespace crashworthy::each {
namespace {

constexpr std::int64_t kStartBoundNs = 30'000'000'000;  // Until a worker is ready.
constexpr std::int64_t kLeaveBoundNs = 5'000'000'000;   // Until it has ended as told.
constexpr std::int64_t kStartPauseNs = 100'000'000;     // After a start that failed.
constexpr int kMaxStartsInVain = 10;
constexpr int kEndBoundMs = 2'000;
constexpr int kLastReads = 64;
constexpr std::size_t kFdsOfPlace = 3;

bool readable(int fd) {
  pollfd poll_fd{fd, POLLIN, 0};
  return ::poll(&poll_fd, 1, 0) > 0;
}

}  // namespace

Dispatcher::Dispatcher(const Settings& settings, const std::vector<Item>& items, const Probe& probe)
    : settings_(settings),
      probe_(probe),
      books_(settings, items, probe),
      // Lives of a dispatcher that was started anew go on where the one before has ended.
      first_life_(static_cast<std::uint32_t>(probe.count(ProbeEvent::kWorkerReady)) + 1),
      places_(static_cast<std::size_t>(settings.workers)),
      intensity_(settings.intensity, settings.period.count()) {
  for (std::size_t i = 0; i < places_.size(); ++i)
    places_[i].doer.who.worker = static_cast<std::uint32_t>(i);
}

Dispatcher::~Dispatcher() {
  for (const Place& place : places_) {
    if (place.child) kill_group(*place.child);
  }
  for (const Place& place : places_) {
    if (!place.child) continue;
    if (wait_for_end(place.child->pidfd.get(), kEndBoundMs)) (void)reap(place.child->pidfd.get());
    if (place.attempt) books_.abandon(*place.attempt);
  }
}

Result<void> Dispatcher::run(int stop_fd) {
  while (books_.open() > 0 && !gave_up_) {
    hand_out();
    if (nobody_left()) books_.lose_waiting("no worker is left");
    if (books_.open() > 0 && !gave_up_ && !wait(stop_fd)) return {};
  }
  if (gave_up_) return *gave_up_;
  leave();
  return {};
}

bool Dispatcher::nobody_left() const {
  return std::all_of(places_.begin(), places_.end(),
                     [](const Place& place) { return place.given_up; });
}

void Dispatcher::enter(Place& place, Place::State state) {
  place.state = state;
  place.since_ns = now_ns();
}

void Dispatcher::hand_out() {
  for (Place& place : places_) {
    if (place.state == Place::State::kEmpty && !place.given_up && now_ns() >= place.not_before) {
      place.not_before = 0;
      settings_.lines ? start_worker(place) : start_command(place);
    }
    if (place.state == Place::State::kIdle) give(place);
  }
  if (settings_.lines) retire_for_retry();
}

// ---- Starting ----

// Whatever `words` are at this place from now on.
bool Dispatcher::start(Place& place, const std::vector<std::string>& words) {
  // A worker is a life; commands are one together, until one of them dies.
  const bool anew = place.lived && (settings_.lines || place.replaces);
  const std::uint32_t life = place.life + (anew ? 1 : 0);
  place.doer.who.incarnation = first_life_ + life;
  if (place.replaces) probe_.emit(ProbeEvent::kReplacement, place.doer.who);
  auto child = start_child(words, settings_.lines);
  if (!child) {
    place.why = child.error().message;
    place.not_before = now_ns() + kStartPauseNs;
    return false;
  }
  place.life = life;
  place.lived = true;
  place.child = *std::move(child);
  place.doer.pid = place.child->pid;
  place.begun = false;
  place.fresh = true;
  place.replaces = false;
  place.listening = settings_.lines;
  place.killed_for = Blame::kNone;
  place.killed = false;
  place.why.clear();
  place.reader = {};
  place.unsent.clear();
  return true;
}

void Dispatcher::start_command(Place& place) {
  const auto cell = place.doer.who.worker;
  auto attempt = books_.take({cell, 0, place.handed_out++}, true);
  if (!attempt) return;
  if (!start(place, fill_in(settings_.command, attempt->input, attempt->output)))
    return books_.failed(*attempt, place.doer, FailureReason::kReported, place.why);
  place.attempt = *std::move(attempt);
  enter(place, Place::State::kBusy);
  probe_.emit_for(place.doer.pid, ProbeEvent::kWorkerReady, place.doer.who);
  books_.began(*place.attempt, place.doer);
}

// ---- Waiting ----

// False when it is to stop.
bool Dispatcher::wait(int stop_fd) {
  std::vector<pollfd> fds;
  for (const Place& place : places_) {
    const bool there = place.child.has_value();
    fds.push_back({there && place.listening ? place.child->output.get() : -1, POLLIN, 0});
    fds.push_back({there && !place.unsent.empty() ? place.child->input.get() : -1, POLLOUT, 0});
    fds.push_back({there ? place.child->pidfd.get() : -1, POLLIN, 0});
  }
  fds.push_back({stop_fd, POLLIN, 0});
  const std::int64_t due = next_ns();
  const std::int64_t wait_ns = std::max<std::int64_t>(0, due - now_ns());
  const timespec timeout{wait_ns / 1'000'000'000, wait_ns % 1'000'000'000};
  if (::ppoll(fds.data(), fds.size(), due == INT64_MAX ? nullptr : &timeout, nullptr) < 0)
    return true;
  if (fds.back().revents != 0) return false;
  for (std::size_t i = 0; i < places_.size(); ++i) {
    Place& place = places_[i];
    const pollfd* of = &fds[i * kFdsOfPlace];
    if (of[0].revents != 0) hear(place);
    if (of[1].revents != 0) send(place);
    if (of[2].revents != 0) on_end(place);
    check_time(place);
  }
  return true;
}

std::int64_t Dispatcher::next_ns() const {
  std::int64_t next = INT64_MAX;
  for (const Place& place : places_) next = std::min(next, due_ns(place));
  return next;
}

// When something is to be done here that nobody tells of.
std::int64_t Dispatcher::due_ns(const Place& place) const {
  if (place.killed) return INT64_MAX;
  std::int64_t due = INT64_MAX;
  switch (place.state) {
    case Place::State::kEmpty:
      return place.not_before == 0 || place.given_up ? INT64_MAX : place.not_before;
    case Place::State::kStarting:
      return settings_.supervised ? place.since_ns + kStartBoundNs : INT64_MAX;
    case Place::State::kIdle:
      return INT64_MAX;
    case Place::State::kBusy:
      if (!settings_.supervised) return INT64_MAX;
      if (settings_.deadline.count() > 0) due = place.since_ns + settings_.deadline.count();
      if (settings_.heartbeat.count() > 0)
        due = std::min(due, place.heard_ns + settings_.heartbeat.count());
      return due;
    case Place::State::kLeaving:
      return place.since_ns + kLeaveBoundNs;
  }
  return due;
}

void Dispatcher::check_time(Place& place) {
  const std::int64_t now = now_ns();
  if (!place.child || now < due_ns(place)) return;
  const std::int64_t deadline = settings_.deadline.count();
  const bool late = deadline > 0 && now >= place.since_ns + deadline;
  if (place.state != Place::State::kBusy) return kill(place, Blame::kNone);
  if (late) {
    return kill(
        place, Blame::kDeadline,
        "it took longer than the deadline of " + format_duration(static_cast<double>(deadline)));
  }
  kill(place, Blame::kSilence,
       "it gave no sign of life for " +
           format_duration(static_cast<double>(settings_.heartbeat.count())));
}

void Dispatcher::kill(Place& place, Blame blame, std::string why) {
  if (place.killed) return;
  place.killed = true;
  place.killed_for = blame;
  place.why = std::move(why);
  kill_group(*place.child);
}

// ---- Ends ----

void Dispatcher::on_end(Place& place) {
  if (!place.child || !has_ended(place.child->pidfd.get())) return;
  // What it has left in its group must not write on. A plain script would not mind.
  if (settings_.supervised) kill_group(*place.child);
  // Its last words count.
  for (int i = 0; place.listening && i < kLastReads && readable(place.child->output.get()); ++i)
    hear(place);
  const auto status = reap(place.child->pidfd.get());
  if (status && !*status) return;  // Not yet: we are told again.
  if (!status) gave_up_ = status.error();
  settle(place, status ? **status : WaitStatus());
}

void Dispatcher::settle(Place& place, WaitStatus status) {
  settings_.lines ? settle_worker(place, status) : settle_command(place, status);
  place.child.reset();
  place.attempt.reset();
  place.listening = false;
  place.unsent.clear();
  enter(place, Place::State::kEmpty);
}

void Dispatcher::settle_command(Place& place, WaitStatus status) {
  if (status.success()) return books_.succeeded(*place.attempt, place.doer);
  tell_of_death(place, status);
  place.replaces = true;
  if (status.exited()) {
    return books_.failed(*place.attempt, place.doer, FailureReason::kReported,
                         "its command " + status.describe());
  }
  const bool ours = status.signal() == SIGKILL && place.killed;
  const Blame blame = status.crashed() ? Blame::kCrash : ours ? place.killed_for : Blame::kNone;
  const std::string why = ours ? place.why : "its command was " + status.describe();
  books_.died(*place.attempt, blame, why);
  count_death(blame, why);
}

void Dispatcher::settle_worker(Place& place, WaitStatus status) {
  if (place.state == Place::State::kLeaving) return;  // As told.
  tell_of_death(place, status);
  const bool ours = status.signalled() && status.signal() == SIGKILL && place.killed;
  const std::string how = (status.exited() ? "its worker " : "its worker was ") + status.describe();
  const std::string why = ours && !place.why.empty() ? place.why : how;
  Blame blame = Blame::kNone;
  if (ours && (place.begun || place.killed_for == Blame::kNonsense)) blame = place.killed_for;
  if (place.begun && (status.exited() || status.crashed())) blame = Blame::kCrash;
  if (!place.attempt) {
    std::fprintf(stderr, "crashworthy-each: worker %u: %s\n", place.doer.who.worker, why.c_str());
    blame = Blame::kNone;
  } else {
    books_.died(*place.attempt, blame, why);
  }
  if (!settings_.supervised) {
    place.given_up = true;
    return;
  }
  place.replaces = true;
  count_death(blame, why);
  if (place.state != Place::State::kStarting) return;
  place.not_before = now_ns() + kStartPauseNs;
  if (++starts_in_vain_ < kMaxStartsInVain) return;
  gave_up_ = Error{ErrorKind::kSystem, 0,
                   "its workers ended " + std::to_string(kMaxStartsInVain) +
                       " times in a row before they were ready; the last time " + how,
                   "run the worker by hand: it must say 'ready' on stdout"};
}

void Dispatcher::tell_of_death(const Place& place, WaitStatus status) {
  const std::uint64_t item = place.attempt ? place.attempt->item : kNoItem;
  const std::uint32_t number = place.attempt ? place.attempt->number : 0;
  probe_.emit_for(place.doer.pid, ProbeEvent::kWorkerDied, place.doer.who, item, 0, number,
                  status.raw());
}

// Deaths that an item has brought about are bounded by that item.
void Dispatcher::count_death(Blame blame, const std::string& why) {
  if (!settings_.supervised || blame != Blame::kNone || intensity_.spend(now_ns())) return;
  gave_up_ = Error{ErrorKind::kSystem,
                   0,
                   "more than " + std::to_string(settings_.intensity) + " deaths within " +
                       format_duration(static_cast<double>(settings_.period.count())) +
                       "; the last one: " + why,
                   {}};
}

// ---- Workers start, and end as told ----

void Dispatcher::start_worker(Place& place) {
  if (start(place, settings_.command)) return enter(place, Place::State::kStarting);
  if (!settings_.supervised) {
    std::fprintf(stderr, "crashworthy-each: worker %u: %s\n", place.doer.who.worker,
                 place.why.c_str());
    place.given_up = true;
    return;
  }
  if (++starts_in_vain_ >= kMaxStartsInVain)
    gave_up_ = Error{ErrorKind::kSystem, 0, place.why, "is there room for another process?"};
}

void Dispatcher::dismiss(Place& place) {
  place.child->input.reset();
  place.unsent.clear();
  enter(place, Place::State::kLeaving);
}

// A retry that only a fresh process may have waits, and nobody fresh is there or coming: one that
// has nothing to do makes room.
void Dispatcher::retire_for_retry() {
  if (!books_.only_for_fresh()) return;
  Place* used = nullptr;
  for (Place& place : places_) {
    const bool coming = place.state == Place::State::kEmpty && !place.given_up;
    const bool fresh = place.state == Place::State::kIdle && place.fresh;
    if (coming || fresh || place.state == Place::State::kStarting ||
        place.state == Place::State::kLeaving)
      return;
    if (place.state == Place::State::kIdle) used = &place;
  }
  if (used != nullptr) dismiss(*used);
}

void Dispatcher::leave() {
  for (Place& place : places_) {
    if (place.child && place.state != Place::State::kLeaving) dismiss(place);
  }
  const auto there = [](const Place& place) { return place.child.has_value(); };
  while (std::any_of(places_.begin(), places_.end(), there)) wait(-1);
}

}  // namespace crashworthy::each
