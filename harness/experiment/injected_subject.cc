#include "harness/experiment/injected_subject.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "harness/experiment/observer.h"
#include "harness/os/file.h"
#include "harness/os/pidfd.h"

namespace crashworthy {
namespace {

using nlohmann::json;

constexpr std::int64_t kDrainEveryNs = 100'000'000;
constexpr std::int64_t kLookEveryNs = 500'000'000;  // At its processes;
constexpr std::int64_t kLookOftenNs = 100'000'000;  // where looking is all there is.
constexpr std::size_t kRingCapacity = 1 << 17;
constexpr std::chrono::seconds kGoneBound(10);
constexpr int kFirstInjection = 5;  // Of what is polled.

ItemRecord to_item_record(const ProbeRecord& record) {
  return {record.time_ns,     record.item,  record.part, record.attempt, record.pid, record.worker,
          record.incarnation, record.event, 0,           record.value};
}

json status_json(const WaitStatus& status) {
  json object{{"raw", status.raw()}, {"text", status.describe()}, {"core", status.dumped_core()}};
  object["exit_code"] = status.exited() ? json(status.exit_code()) : json(nullptr);
  object["signal"] = status.signalled() ? json(status.signal()) : json(nullptr);
  return object;
}

}  // namespace

json harness_identity() {
  std::error_code ignored;
  auto boot = read_file("/proc/sys/kernel/random/boot_id");
  while (boot && boot->ends_with('\n')) boot->pop_back();
  return {{"pid", ::getpid()},
          {"start_time", start_time_of(::getpid()).value_or(0)},
          {"boot", boot ? *boot : std::string()},
          {"pid_namespace", std::filesystem::read_symlink("/proc/self/ns/pid", ignored).string()}};
}

InjectedSubject::~InjectedSubject() {
  subject_.reset();  // First: nothing is undone under the feet of a living tree.
  injections_.abandon();
}

Result<void> InjectedSubject::open(const std::filesystem::path& directory) {
  auto history = HistoryWriter::create(directory);
  if (!history) return history.error();
  history_ = std::move(*history);
  auto ring = ProbeRing::create(kRingCapacity);
  if (!ring) return ring.error();
  ring_ = std::move(*ring);
  auto processes = ProcessWatch::create();
  if (!processes) return processes.error();
  processes_ = std::move(*processes);
  return {};
}

Result<void> InjectedSubject::arm(const std::vector<FaultSpec>& faults,
                                  const std::vector<Trigger>& triggers, std::uint64_t seed,
                                  bool disarmed, const Schedule& schedule) {
  for (std::size_t i = 0; i < faults.size(); ++i) {
    InjectionSetup setup{faults[i], triggers[i], derive_seed(seed, "injection", i), disarmed,
                         [this](json step, bool synced) { log(std::move(step), synced); }};
    if (i < schedule.victims.size()) setup.victims = schedule.victims[i];
    injections_.add(Injection::plan(std::move(setup)));
  }
  injections_.set_order(schedule.order);
  if (auto armed = injections_.arm(plan_); !armed) return armed;
  // Writing the history must work before anything is started: a full disk is found here.
  if (failure_) return *failure_;
  return {};
}

Result<void> InjectedSubject::launch(const LaunchSpec& launch) {
  launched_ns_ = now_ns();
  auto subject = Subject::launch(launch);
  if (!subject) return subject.error();
  subject_.emplace(std::move(*subject));
  main_pid_ = pid_in_own_namespace(subject_->main_pid()).value_or(0);
  containment_ = containment_name(subject_->containment());
  if (!subject_->containment_reason().empty())
    containment_ += " (" + subject_->containment_reason() + ")";
  log({{"type", "process"},
       {"event", "launched"},
       {"role", "main"},
       {"pid", main_pid()},
       {"host_pid", subject_->main_pid()},
       {"start_time", start_time_of(subject_->main_pid()).value_or(0)},
       {"containment", containment_}},
      false, launched_ns_);
  processes_->begin(subject_->main_pid(), launched_ns_);
  log({{"type", "observer"},
       {"of", "processes"},
       {"source", processes_->source()},
       {"reason", processes_->reason()}});
  phase("steady");
  injections_.launched(*this, *ring_);
  return {};
}

// The loop: reports, probe, outputs, processes, time; nothing polls.
void InjectedSubject::supervise(std::int64_t deadline) {
  const std::int64_t look_every = processes_->fd() >= 0 ? kLookEveryNs : kLookOftenNs;
  std::int64_t drain_at = launched_ns_ + kDrainEveryNs;
  std::int64_t look_at = launched_ns_;
  while (!childless_) {
    const std::int64_t now = now_ns();
    const std::int64_t until = main_ended_ ? ended_ns_ + linger_ns() : deadline;
    if (now >= until) {
      timed_out_ = !main_ended_;
      return;
    }
    if (now >= injections_.next_ns(*this)) look_for_faults();
    if (now >= drain_at) {
      refresh(false);
      drain_at = now + kDrainEveryNs;
    }
    if (now >= look_at) {
      const std::vector<pid_t> tree = subject_->descendants();
      processes_->update(tree);
      if (nothing_more(tree)) return;
      look_at = now + look_every;
    }
    const std::int64_t next = std::min({until, injections_.next_ns(*this), drain_at, look_at,
                                        again_at(connector()), again_at(outputs())});
    if (!wait_for_events(next)) return;
  }
}

InjectedSubject::Source InjectedSubject::connector() const {
  return {processes_->fd(), connector_read_ns_ + kConnectorEveryNs};
}
InjectedSubject::Source InjectedSubject::outputs() const {
  return {output_fd(), outputs_read_ns_ + kOutputsEveryNs};
}

void InjectedSubject::take_outputs() {
  read_outputs();
  outputs_read_ns_ = now_ns();
}

void InjectedSubject::look_for_faults() {
  take_outputs();  // First: what comes before the fault is stamped before it.
  injections_.look(*this, *ring_);
}

// False when the user interrupts.
bool InjectedSubject::wait_for_events(std::int64_t until_ns) {
  std::vector<pollfd> fds{{subject_->report_fd(), POLLIN, 0},
                          {ring_->event_fd(), POLLIN, 0},
                          {due(outputs()), POLLIN, 0},
                          {interrupt_fd_, POLLIN, 0},
                          {due(connector()), POLLIN, 0}};
  for (const int descriptor : injections_.descriptors()) fds.push_back({descriptor, POLLIN, 0});
  const std::int64_t wait_ns = std::max<std::int64_t>(0, until_ns - now_ns());
  const timespec timeout{wait_ns / 1'000'000'000, wait_ns % 1'000'000'000};
  if (::ppoll(fds.data(), fds.size(), &timeout, nullptr) <= 0) return true;
  const bool looks = std::any_of(fds.begin() + kFirstInjection, fds.end(),
                                 [](const pollfd& fd) { return fd.revents != 0; });
  // Clears the event of the probe, and may ask for the next.
  if (looks || fds[1].revents != 0 || fds[2].revents != 0) look_for_faults();
  if (fds[4].revents != 0) {
    processes_->read_connector();
    connector_read_ns_ = now_ns();
  }
  if (fds[0].revents != 0) read_reports();
  if (fds[3].revents != 0) interrupted_ = true;
  return !interrupted_;
}

void InjectedSubject::read_reports() {
  auto reports = subject_->read_reports();
  if (!reports) {
    failure_ = reports.error();
    childless_ = true;
    return;
  }
  const bool ran = !main_ended_;
  for (const Report& report : *reports) {
    if (report.kind == Report::Kind::kChildless || report.kind == Report::Kind::kGuardLost) {
      childless_ = true;
      if (report.kind == Report::Kind::kChildless) childless_ns_ = report.time_ns;
      if (report.kind == Report::Kind::kGuardLost && !main_ended_) {
        failure_ = Error{ErrorKind::kSystem, 0, "crashworthy-init was killed by somebody else", {}};
      }
      continue;
    }
    ends_.push_back({report.pid, report.status, report.time_ns});
    const bool main = report.kind == Report::Kind::kMainEnded;
    if (main) {
      main_ended_ = true;
      ended_ns_ = report.time_ns;
      main_status_ = report.status;
    }
    const bool kept =
        processes_->add_orphan(report.host_pid, report.pid, report.status, report.time_ns);
    if (kept && !main) continue;  // Written with the others, in the end.
    log({{"type", "process"},
         {"event", "ended"},
         {"role", main ? "main" : "orphan"},
         {"pid", report.pid},
         {"status", status_json(report.status)}},
        false, report.time_ns);
  }
  if (!ran || !main_ended_) return;
  take_outputs();  // These may have come before it ended; what follows has not.
  end_known_ns_ = now_ns();
  if (!childless_) orphans_ = static_cast<std::int64_t>(subject_->descendants().size());
}

// Births and ends of all but the main process, as far as they were seen.
void InjectedSubject::log_processes() {
  const auto known = [](pid_t pid) { return pid == 0 ? json(nullptr) : json(pid); };
  for (const SeenProcess& process : processes_->all()) {
    if (process.host_pid == subject_->main_pid()) continue;
    json line{{"type", "process"},
              {"role", process.orphan ? "orphan" : "descendant"},
              {"pid", known(process.pid)},
              {"host_pid", process.host_pid},
              {"parent", known(process.parent)},
              {"command", process.command.empty() ? json(nullptr) : json(process.command)}};
    if (process.started_ns) {
      line["event"] = "started";
      log(line, false, *process.started_ns);
    }
    if (!process.ended_ns) continue;
    line["event"] = "ended";
    line["status"] = process.status ? status_json(*process.status) : json(nullptr);
    if (!process.status) line["reason"] = "nobody tells how it ended";
    log(line, false, *process.ended_ns);
  }
}

void InjectedSubject::end_subject() {
  take_outputs();  // Taking it down may last.
  subject_->kill_tree();
  if (!subject_->wait_until_gone(kGoneBound))
    failure_ = Error{ErrorKind::kTimeout, 0, "the subject's processes do not end", {}};
  gone_ns_ = now_ns();
  if (!timed_out_ && !main_ended_ && !interrupted_) read_reports();
  processes_->update({});
  refresh(true);
  read_outputs();
  log_processes();
}

void InjectedSubject::judge_injections(std::vector<ObservedEnd> further) {
  InjectionEvidence evidence{ends_, records_, !failure_};
  for (const ProbeRecord& record : records_) {
    if (record.event != static_cast<std::uint16_t>(ProbeEvent::kWorkerDied)) continue;
    evidence.ends.push_back(
        {record.pid, WaitStatus::from_raw(static_cast<int>(record.value)), record.time_ns});
  }
  evidence.ends.insert(evidence.ends.end(), further.begin(), further.end());
  injections_.finish(evidence);
}

void InjectedSubject::phase(const char* name) { log({{"type", "phase"}, {"phase", name}}); }

void InjectedSubject::log(json event, bool synced, std::optional<std::int64_t> time_ns) {
  if (!event.contains("time_ns")) event["time_ns"] = time_ns.value_or(now_ns());
  on_event(event);
  auto written = synced ? history_->write_synced(event) : history_->write(event);
  if (!written && !failure_) failure_ = written.error();
}

Error InjectedSubject::give_up(Error error) {
  if (history_) log({{"type", "end"}, {"outcome", "harness_error"}, {"error", error.message}});
  return error;
}

void InjectedSubject::refresh(bool final) {
  const std::size_t before = records_.size();
  ring_->drain(records_, final);
  // The ring is the subject's to write: only events of the probe pass, never those of the checker.
  const auto first = records_.begin() + static_cast<std::ptrdiff_t>(before);
  records_.erase(std::remove_if(first, records_.end(),
                                [](const ProbeRecord& record) {
                                  return record.event == 0 || record.event >= kProbeEventCount;
                                }),
                 records_.end());
  const std::span<const ProbeRecord> fresh(records_.data() + before, records_.size() - before);
  tracker_.add(fresh);
  for (const ProbeRecord& record : fresh) {
    const auto event = static_cast<ProbeEvent>(record.event);
    if (event == ProbeEvent::kWorkerReady && ready_ns_ == 0) ready_ns_ = record.time_ns;
    if (event == ProbeEvent::kDelivered) last_output_ns_ = record.time_ns;
    if (event == ProbeEvent::kDelivered && first_output_ns_ == 0) first_output_ns_ = record.time_ns;
  }
  std::vector<ItemRecord> items;
  for (const ProbeRecord& record : fresh) items.push_back(to_item_record(record));
  if (auto written = history_->write_items(items); !written && !failure_)
    failure_ = written.error();
}

Moment InjectedSubject::moment() const {
  Moment moment;
  moment.now_ns = now_ns();
  moment.launched_ns = launched_ns_;
  moment.items_taken = ring_->count(ProbeEvent::kTaken);
  moment.ready_ns = ready_ns_;
  moment.first_output_ns = first_output_ns_;
  moment.last_output_ns = last_output_ns_;
  return moment;
}

}  // namespace crashworthy
