// What a worker is told and what it says: docs/worker-protocol.md.
#include <unistd.h>

#include <cerrno>
#include <string>
#include <vector>

#include "harness/os/clock.h"
#include "harness/os/pidfd.h"
#include "pipelines/each/dispatcher.h"

namespace crashworthy::each {
namespace {

// A closed end of a pipe is what a death looks like, too, a moment before it is proved.
constexpr int kProofPatienceMs = 100;

}  // namespace

void Dispatcher::give(Place& place) {
  auto attempt = books_.take(
      {place.doer.who.worker, place.doer.who.incarnation, place.handed_out++}, place.fresh);
  if (!attempt) return;
  place.attempt = *std::move(attempt);
  place.begun = false;
  enter(place, Place::State::kBusy);
  place.heard_ns = place.since_ns;
  place.unsent = item_line(place.attempt->item, place.attempt->number, place.attempt->input,
                           place.attempt->output);
  send(place);
}

void Dispatcher::send(Place& place) {
  const ssize_t count = ::write(place.child->input.get(), place.unsent.data(), place.unsent.size());
  if (count >= 0) {
    place.unsent.erase(0, static_cast<std::size_t>(count));
  } else if (errno != EAGAIN && errno != EINTR) {
    place.unsent.clear();
    if (!wait_for_end(place.child->pidfd.get(), kProofPatienceMs))
      kill(place, Blame::kNonsense, "its worker has closed its stdin");
  }
}

void Dispatcher::hear(Place& place) {
  std::vector<std::string> lines;
  const LineReader::State state = place.reader.read(place.child->output.get(), lines);
  for (const std::string& line : lines) {
    if (place.killed) break;  // After nonsense nothing counts.
    obey(place, line);
  }
  if (state == LineReader::State::kOpen) return;
  place.listening = false;
  if (state == LineReader::State::kTooLong) {
    kill(place, Blame::kNonsense,
         "its worker wrote a line of more than " + std::to_string(kMaxLine) + " bytes");
  } else if (!wait_for_end(place.child->pidfd.get(), kProofPatienceMs)) {
    kill(place, Blame::kNonsense, "its worker has closed its stdout");
  }
}

void Dispatcher::obey(Place& place, const std::string& line) {
  const auto answer = parse_answer(line);
  if (!answer) return kill(place, Blame::kNonsense, "its worker wrote " + answer.error().message);
  place.heard_ns = now_ns();
  obey(place, *answer);
}

void Dispatcher::obey(Place& place, const Answer& answer) {
  using Kind = Answer::Kind;
  const auto refuse = [&](const char* what) {
    kill(place, Blame::kNonsense, std::string("its worker said ") + what);
  };
  if (answer.kind == Kind::kHeartbeat) return;
  if (answer.kind == Kind::kReady) {
    if (place.state == Place::State::kLeaving) return;  // Told to end before it was ready.
    if (place.state != Place::State::kStarting) return refuse("twice that it was ready");
    starts_in_vain_ = 0;
    probe_.emit_for(place.doer.pid, ProbeEvent::kWorkerReady, place.doer.who);
    return enter(place, Place::State::kIdle);
  }
  const bool holds = place.attempt && place.attempt->item == answer.item && place.unsent.empty();
  if (!holds) return refuse("something of an item that it does not hold");
  if (answer.kind == Kind::kStarted) {
    if (place.begun) return refuse("twice that it had started");
    place.begun = true;
    return books_.began(*place.attempt, place.doer);
  }
  if (!place.begun) return refuse("how an item has ended that it had not started");
  const Attempt attempt = *place.attempt;
  place.attempt.reset();
  place.fresh = false;
  enter(place, Place::State::kIdle);
  if (answer.kind == Kind::kDone) return books_.succeeded(attempt, place.doer);
  books_.failed(attempt, place.doer, FailureReason::kReported,
                "its worker said: " + answer.message);
}

}  // namespace crashworthy::each
