#include "harness/experiment/trial.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "harness/experiment/conditions.h"
#include "harness/experiment/content.h"
#include "harness/experiment/launch.h"
#include "harness/experiment/observer.h"
#include "harness/os/clock.h"
#include "harness/os/file.h"
#include "harness/os/pidfd.h"
#include "harness/process/launcher.h"
#include "harness/process/process_tree.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::int64_t kDrainEveryNs = 100'000'000;
constexpr std::size_t kRingCapacity = 1 << 17;
constexpr std::streamoff kStderrTail = 2000;
constexpr std::chrono::seconds kGoneBound(10);
constexpr int kCommandDepth = 3;  // Of a restarted command, below `crashworthy supervise`.
// Numbers of the probe's descriptors in the subject: far from those that programs open themselves.
constexpr int kRingNumber = 100;
constexpr int kEventNumber = 101;
constexpr int kFirstInjection = 4;  // Of what is polled.

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

std::string tail_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return {};
  const auto size = static_cast<std::streamoff>(file.tellg());
  const std::streamoff length = std::min<std::streamoff>(size, kStderrTail);
  std::string tail(static_cast<std::size_t>(length), '\0');
  file.seekg(size - length);
  file.read(tail.data(), length);
  return tail;
}

class Trial : private SubjectView {
 public:
  Trial(const TrialSpec& spec, const PreparedSubject& prepared, const Golden* golden, Golden* into,
        int interrupt_fd)
      : spec_(spec),
        prepared_(prepared),
        golden_(golden),
        golden_into_(into),
        interrupt_fd_(interrupt_fd) {}

  ~Trial() override {
    subject_.reset();
    std::error_code ignored;
    fs::remove_all(spec_.scratch, ignored);
  }

  Result<TrialOutcome> run() {
    if (auto ready = prepare(); !ready) return give_up(ready.error());
    if (auto launched = launch(); !launched) return give_up(launched.error());
    supervise();
    if (outcome_.interrupted) return outcome_;
    end_subject();
    if (auto judged = judge(); !judged) return give_up(judged.error());
    if (failure_) return give_up(*failure_);
    phase("end");
    log({{"type", "end"},
         {"outcome", outcome_.ran_to_end ? "finished" : "ended_early"},
         {"ended", outcome_.ended},
         {"stderr", outcome_.stderr_tail},
         {"probe_dropped", ring_->dropped()},
         {"probe_gaps", ring_->gaps()},
         {"observer_overflowed", observer_->overflowed()}});
    if (failure_) return *failure_;
    return outcome_;
  }

 private:
  // The history says that this trial is the harness's failure, not the subject's.
  Error give_up(Error error) {
    if (history_) log({{"type", "end"}, {"outcome", "harness_error"}, {"error", error.message}});
    return error;
  }

  Result<void> prepare() {
    auto history = HistoryWriter::create(spec_.directory);
    if (!history) return history.error();
    history_ = std::move(*history);
    auto setup = set_up_trial(prepared_, *spec_.arm, spec_.scratch, changes_inputs());
    if (!setup) return setup.error();
    setup_ = *std::move(setup);
    auto ring = ProbeRing::create(kRingCapacity);
    if (!ring) return ring.error();
    ring_ = std::move(*ring);
    auto observer = OutputObserver::create(setup_.output_root);
    if (!observer) return observer.error();
    observer_ = std::move(*observer);
    write_header();
    phase("startup");
    if (golden_ != nullptr) {
      for (std::size_t i = 0; i < golden_->items.size(); ++i) item_of_[golden_->items[i].name] = i;
    }
    plan_.argv = setup_.argv;
    plan_.environment = setup_.environment;
    plan_.environment.push_back(ProbeRing::environment(kRingNumber, kEventNumber));
    plan_.directory = setup_.directory;
    plan_.scratch = spec_.scratch;
    plan_.output = setup_.output;
    plan_.inputs = setup_.inputs;
    plan_.inputs_are_copies = true;
    if (spec_.faults != nullptr) plan_.no_mounts = why_no_mounts();
    plan_.descriptors = {{ring_->ring_fd(), kRingNumber}, {ring_->event_fd(), kEventNumber}};
    if (auto opened = open_streams(); !opened) return opened;
    if (auto armed = arm_injections(); !armed) return armed;
    for (const fs::path& input : plan_.inputs)
      input_names_.insert(input.lexically_relative(setup_.output_root).string());
    std::vector<Publication> inputs;
    observer_->read(inputs);  // What the injections did there was no output.
    return finish_writing();
  }

  // What the subject reads and writes, where an injection may stand in between.
  Result<void> open_streams() {
    constexpr int kWrite = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC;
    streams_[0].reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    streams_[1].reset(::open((spec_.scratch / "stdout").c_str(), kWrite, 0644));
    streams_[2].reset(::open((spec_.scratch / "stderr").c_str(), kWrite, 0644));
    for (int number = 0; number <= STDERR_FILENO; ++number) {
      const UniqueFd& stream = streams_[static_cast<std::size_t>(number)];
      if (!stream.valid()) return system_error("open the subject's output", errno);
      plan_.descriptors.emplace_back(stream.get(), number);
    }
    return {};
  }

  bool changes_inputs() const {
    const auto changes = [](const FaultSpec& fault) {
      return std::string_view(fault.row().mechanism) == "input";
    };
    return spec_.faults != nullptr &&
           std::any_of(spec_.faults->faults.begin(), spec_.faults->faults.end(), changes);
  }

  Result<void> arm_injections() {
    for (std::size_t i = 0; spec_.faults != nullptr && i < spec_.faults->faults.size(); ++i) {
      injections_.add(Injection::plan(
          {spec_.faults->faults[i], spec_.triggers[i], derive_seed(spec_.seed, "injection", i),
           spec_.disarmed, [this](json step, bool synced) { log(std::move(step), synced); }}));
    }
    return injections_.arm(plan_);
  }

  // Writing the history must work before anything is started: a full disk is found here.
  Result<void> finish_writing() const {
    if (failure_) return *failure_;
    return {};
  }

  void write_header() {
    log({{"type", "trial"},
         {"schema", kSchemaVersion},
         {"run", spec_.run},
         {"trial", spec_.number},
         {"block", spec_.block},
         {"order", spec_.order},
         {"arm", spec_.arm->name},
         {"fault", spec_.faults == nullptr ? "none" : spec_.faults->name},
         {"seed", spec_.seed},
         {"disarmed", spec_.disarmed},
         {"items", golden_ == nullptr ? 0 : golden_->items.size()},
         {"deliverable", golden_ == nullptr ? 0 : golden_->deliverable()},
         {"command", setup_.argv},
         {"environment", setup_.environment},
         {"timeout_ns", spec_.timeout.count()},
         {"core_limit", 0},
         {"conditions", read_conditions()}});
  }

  Result<void> launch() {
    setup_.argv = plan_.argv;
    if (spec_.arm->supervision == Supervision::kRestart) {
      std::vector<int> numbers;
      for (const auto& [ours, number] : plan_.descriptors) {
        if (number > STDERR_FILENO) numbers.push_back(number);
      }
      if (auto put = put_under_restart(*spec_.arm, spec_.scratch, numbers, setup_); !put)
        return put;
    }
    LaunchSpec launch = launch_spec(plan_);
    launch.argv = setup_.argv;
    launched_ns_ = now_ns();
    auto subject = Subject::launch(launch);
    if (!subject) return subject.error();
    subject_.emplace(std::move(*subject));
    main_pid_ = pid_in_own_namespace(subject_->main_pid()).value_or(0);
    outcome_.containment = containment_name(subject_->containment());
    if (!subject_->containment_reason().empty())
      outcome_.containment += " (" + subject_->containment_reason() + ")";
    log({{"type", "process"},
         {"event", "launched"},
         {"role", "main"},
         {"pid", main_pid()},
         {"host_pid", subject_->main_pid()},
         {"containment", outcome_.containment}},
        false, launched_ns_);
    phase("steady");
    injections_.launched(*this, *ring_);
    return {};
  }

  // The loop of the trial: reports, probe, outputs, time; nothing polls.
  void supervise() {
    const std::int64_t deadline = launched_ns_ + spec_.timeout.count();
    std::int64_t drain_at = launched_ns_ + kDrainEveryNs;
    while (!childless_) {
      const std::int64_t now = now_ns();
      if (now >= deadline) {
        timed_out_ = !main_ended_;
        return;
      }
      if (now >= injections_.next_ns(*this)) injections_.look(*this, *ring_);
      if (now >= drain_at) {
        refresh();
        drain_at = now + kDrainEveryNs;
      }
      if (!wait_for_events(std::min({deadline, injections_.next_ns(*this), drain_at}))) return;
      if (main_ended_) return;  // What is left of its tree ends with it.
    }
  }

  // False when the user interrupts.
  bool wait_for_events(std::int64_t until_ns) {
    std::vector<pollfd> fds{{subject_->report_fd(), POLLIN, 0},
                            {ring_->event_fd(), POLLIN, 0},
                            {observer_->fd(), POLLIN, 0},
                            {interrupt_fd_, POLLIN, 0}};
    for (const int descriptor : injections_.descriptors()) fds.push_back({descriptor, POLLIN, 0});
    const std::int64_t wait_ns = std::max<std::int64_t>(0, until_ns - now_ns());
    const timespec timeout{wait_ns / 1'000'000'000, wait_ns % 1'000'000'000};
    if (::ppoll(fds.data(), fds.size(), &timeout, nullptr) <= 0) return true;
    if (fds[2].revents != 0)
      read_outputs();  // First: what comes before the fault is stamped before it.
    const bool looks = std::any_of(fds.begin() + kFirstInjection, fds.end(),
                                   [](const pollfd& fd) { return fd.revents != 0; });
    // Clears the event of the probe, and may ask for the next.
    if (looks || fds[1].revents != 0 || fds[2].revents != 0) injections_.look(*this, *ring_);
    if (fds[0].revents != 0) read_reports();
    if (fds[3].revents != 0) outcome_.interrupted = true;
    return !outcome_.interrupted;
  }

  void read_reports() {
    auto reports = subject_->read_reports();
    if (!reports) {
      failure_ = reports.error();
      childless_ = true;
      return;
    }
    for (const Report& report : *reports) {
      if (report.kind == Report::Kind::kChildless || report.kind == Report::Kind::kGuardLost) {
        childless_ = true;
        if (report.kind == Report::Kind::kGuardLost && !main_ended_) {
          failure_ =
              Error{ErrorKind::kSystem, 0, "crashworthy-init was killed by somebody else", {}};
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
      log({{"type", "process"},
           {"event", "ended"},
           {"role", main ? "main" : "orphan"},
           {"pid", report.pid},
           {"status", status_json(report.status)}},
          false, report.time_ns);
    }
  }

  void read_outputs() {
    const std::size_t before = publications_.size();
    observer_->read(publications_);
    // An input that comes late is no output.
    const auto first = publications_.begin() + static_cast<std::ptrdiff_t>(before);
    publications_.erase(std::remove_if(first, publications_.end(),
                                       [this](const Publication& publication) {
                                         return input_names_.contains(publication.name) &&
                                                !item_of_.contains(publication.name);
                                       }),
                        publications_.end());
    if (before == 0 && !publications_.empty()) phase("delivering");
    if (publications_.empty()) return;
    if (first_output_ns_ == 0) first_output_ns_ = publications_.front().time_ns;
    last_output_ns_ = std::max(last_output_ns_, publications_.back().time_ns);
  }

  // Whatever is left of the tree ends now; then the last words of the probe and of the observer are
  // read.
  void end_subject() {
    if (!main_ended_)
      outcome_.ended = fmt::format("did not end within {}",
                                   format_duration(static_cast<double>(spec_.timeout.count())));
    subject_->kill_tree();
    if (!subject_->wait_until_gone(kGoneBound))
      failure_ = Error{ErrorKind::kTimeout, 0, "the subject's processes do not end", {}};
    if (!timed_out_ && !main_ended_) read_reports();
    refresh(true);
    read_outputs();
    if (main_ended_) outcome_.ended = main_status_.describe();
    outcome_.duration_ns = (main_ended_ ? ended_ns_ : now_ns()) - launched_ns_;
    outcome_.ran_to_end = main_ended_ && !timed_out_ && main_status_.exited() &&
                          std::find(setup_.complete_codes.begin(), setup_.complete_codes.end(),
                                    main_status_.exit_code()) != setup_.complete_codes.end();
    outcome_.stderr_tail = tail_of(spec_.scratch / "stderr");
    if (!injections_.empty()) finish_injections();
  }

  void finish_injections() {
    phase("check_injection");
    InjectionEvidence evidence{ends_, records_, !failure_};
    for (const ProbeRecord& record : records_) {
      if (record.event != static_cast<std::uint16_t>(ProbeEvent::kWorkerDied)) continue;
      evidence.ends.push_back(
          {record.pid, WaitStatus::from_raw(static_cast<int>(record.value)), record.time_ns});
    }
    add_supervision_events(evidence.ends);
    injections_.finish(evidence);
  }

  // How the command's incarnations ended, as `crashworthy supervise` saw it.
  void add_supervision_events(std::vector<ObservedEnd>& ends) {
    if (setup_.events.empty()) return;
    std::ifstream file(setup_.events);
    for (std::string line; std::getline(file, line);) {
      json event = json::parse(line, nullptr, false);
      if (!event.is_object()) continue;  // The last one, cut off by a fault.
      if (event.value("event", "") == "ended" && event.contains("raw_status")) {
        ends.push_back({event.value("pid", 0), WaitStatus::from_raw(event.value("raw_status", 0)),
                        event.value("time_ns", std::int64_t{0})});
      }
    }
  }

  Result<void> judge() {
    phase("check");
    std::error_code failure;
    if (fs::is_symlink(setup_.output_root,
                       failure)) {  // The subject put a link in its place: there are no outputs.
      fs::remove(setup_.output_root, failure);
      log({{"type", "extra_output"}, {"name", "the output directory itself, replaced by a link"}});
    }
    if (golden_into_ != nullptr) return read_golden_run();
    if (golden_->exit_status_only()) {
      ItemVerdicts verdict;
      verdict.classes = {outcome_.ran_to_end ? ItemClass::kOk : ItemClass::kUnfinished};
      if (outcome_.ran_to_end) publications_.push_back({kExitStatusItem, ended_ns_});
      write_verdicts(verdict);
      return {};
    }
    std::set<std::uint64_t> reported;
    for (const ProbeRecord& record : records_) {
      if (record.event == static_cast<std::uint16_t>(ProbeEvent::kFailed))
        reported.insert(record.item);
    }
    auto verdicts = check_outputs(*golden_, setup_.output_root, setup_.patterns, input_names_,
                                  reported, outcome_.ran_to_end, spec_.scratch);
    if (!verdicts) return verdicts.error();
    write_verdicts(*verdicts);
    return {};
  }

  Result<void> read_golden_run() {
    if (!outcome_.ran_to_end) return {};
    auto golden = read_golden(setup_.output_root, setup_.patterns, prepared_.items, spec_.scratch);
    if (!golden) return golden.error();
    *golden_into_ = *std::move(golden);
    golden_into_->duration_ns = outcome_.duration_ns;
    remove_inputs_from_items(*golden_into_);
    if (golden_into_->items.empty() && prepared_.spec.pipeline.empty() && setup_.patterns.empty()) {
      golden_into_->items = {{kExitStatusItem}};
      golden_into_->outputs = {{outcome_.ended, outcome_.ended}};
    }
    return {};
  }

  // A command's own inputs lie in its directory; they are no outputs unless it changed them.
  void remove_inputs_from_items(Golden& golden) const {
    if (!prepared_.spec.pipeline.empty() || !setup_.patterns.empty()) return;
    Golden kept;
    for (std::size_t i = 0; i < golden.items.size(); ++i) {
      const std::string& name = golden.items[i].name;
      const bool input = std::find(prepared_.input_files.begin(), prepared_.input_files.end(),
                                   name) != prepared_.input_files.end();
      auto original =
          input ? hash_file(prepared_.spec.directory / name) : Result<std::string>(std::string());
      if (input && original && *original == golden.outputs[i].bytes) continue;
      kept.items.push_back(golden.items[i]);
      kept.outputs.push_back(golden.outputs[i]);
    }
    golden.items = std::move(kept.items);
    golden.outputs = std::move(kept.outputs);
  }

  void write_verdicts(const ItemVerdicts& verdicts) {
    std::vector<ItemRecord> records;
    for (const Publication& publication : publications_) {
      const auto item = item_of_.find(publication.name);
      if (item == item_of_.end()) continue;
      records.push_back(
          outside_record(ItemEvent::kPublished, item->second, 0, publication.time_ns));
    }
    const std::int64_t now = now_ns();
    for (std::size_t i = 0; i < verdicts.classes.size(); ++i) {
      records.push_back(outside_record(ItemEvent::kJudged, i,
                                       static_cast<std::int64_t>(verdicts.classes[i]), now));
    }
    for (const auto& [item, count] : verdicts.duplicated)
      records.push_back(outside_record(ItemEvent::kDuplicated, item, count, now));
    for (const auto& [item, place] : verdicts.misplaced) {
      const auto other = item_of_.find(place);
      records.push_back(outside_record(
          ItemEvent::kMisplaced, item,
          other == item_of_.end() ? -1 : static_cast<std::int64_t>(other->second), now));
      log({{"type", "misplaced"}, {"item", item}, {"found_at", place}});
    }
    for (const std::string& extra : verdicts.extra)
      log({{"type", "extra_output"}, {"name", extra}});
    if (auto written = history_->write_items(records); !written) failure_ = written.error();
  }

  static ItemRecord outside_record(ItemEvent event, std::size_t item, std::int64_t value,
                                   std::int64_t time_ns) {
    ItemRecord record;
    record.time_ns = time_ns;
    record.item = item;
    record.event = static_cast<std::uint16_t>(event);
    record.value = value;
    return record;
  }

  void phase(const char* name) { log({{"type", "phase"}, {"phase", name}}); }

  void log(json event, bool synced = false, std::optional<std::int64_t> time_ns = std::nullopt) {
    if (!event.contains("time_ns")) event["time_ns"] = time_ns.value_or(now_ns());
    auto written = synced ? history_->write_synced(event) : history_->write(event);
    if (!written && !failure_) failure_ = written.error();
  }

  // SubjectView: what an injection may ask.
  void refresh() override { refresh(false); }
  void refresh(bool final) {
    const std::size_t before = records_.size();
    ring_->drain(records_, final);
    // The ring is the subject's to write: only events of the probe pass, never those of the
    // checker.
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
      if (event == ProbeEvent::kDelivered && first_output_ns_ == 0)
        first_output_ns_ = record.time_ns;
    }
    std::vector<ItemRecord> items;
    for (const ProbeRecord& record : fresh) items.push_back(to_item_record(record));
    if (auto written = history_->write_items(items); !written && !failure_)
      failure_ = written.error();
  }
  const WorkerTracker& workers() const override { return tracker_; }
  bool restarts() const { return spec_.arm->supervision == Supervision::kRestart; }
  bool isolated() const override {
    return spec_.arm->supervision == Supervision::kIsolate ||
           spec_.arm->supervision == Supervision::kSupervised;
  }
  bool supervised() const override {
    return spec_.arm->supervision == Supervision::kSupervised || restarts();
  }
  std::int32_t supervisor_pid() const override { return main_pid_; }
  std::int32_t main_pid() const override {
    if (!restarts()) return main_pid_;
    // supervise -> the two processes of the command's shim -> the command.
    const std::vector<TreeProcess> processes = descendants_of(subject_->main_pid());
    std::vector<TreeProcess> level{{subject_->main_pid(), 0}};
    for (int depth = 0; depth < kCommandDepth && !level.empty(); ++depth) {
      level = children_among(processes, level[0].pid);
    }
    if (level.empty()) return 0;
    return pid_in_own_namespace(level[0].pid).value_or(0);
  }
  static std::vector<TreeProcess> children_among(const std::vector<TreeProcess>& processes,
                                                 pid_t parent) {
    std::vector<TreeProcess> children;
    for (const TreeProcess& process : processes) {
      if (process.parent == parent) children.push_back(process);
    }
    return children;
  }
  Result<UniqueFd> open(std::int32_t pid) const override { return subject_->open_process(pid); }
  std::vector<pid_t> host_pids() const override { return subject_->descendants(); }

  Moment moment() const override {
    Moment moment;
    moment.now_ns = now_ns();
    moment.launched_ns = launched_ns_;
    moment.items_taken = ring_->count(ProbeEvent::kTaken);
    // A command that has no probe tells nothing of the kind.
    moment.ready_ns = prepared_.spec.pipeline.empty() && ready_ns_ == 0 ? launched_ns_ : ready_ns_;
    moment.first_output_ns = first_output_ns_;
    moment.last_output_ns = last_output_ns_;
    return moment;
  }

  const TrialSpec& spec_;
  const PreparedSubject& prepared_;
  const Golden* golden_;
  Golden* golden_into_;
  int interrupt_fd_;
  std::optional<HistoryWriter> history_;
  TrialSetup setup_;
  std::optional<ProbeRing> ring_;
  std::optional<OutputObserver> observer_;
  std::array<UniqueFd, 3> streams_;
  LaunchPlan plan_;
  InjectionSet injections_;
  std::set<std::string> input_names_;  // Of files in the output root that are inputs.
  std::optional<Subject> subject_;
  std::map<std::string, std::size_t> item_of_;
  WorkerTracker tracker_;
  std::vector<ProbeRecord> records_;
  std::vector<Publication> publications_;
  std::vector<ObservedEnd> ends_;
  TrialOutcome outcome_;
  std::optional<Error> failure_;
  std::int32_t main_pid_ = 0;  // As the subject sees it.
  std::int64_t launched_ns_ = 0;
  std::int64_t ready_ns_ = 0;
  std::int64_t first_output_ns_ = 0;
  std::int64_t last_output_ns_ = 0;
  std::int64_t ended_ns_ = 0;
  WaitStatus main_status_;
  bool main_ended_ = false;
  bool childless_ = false;
  bool timed_out_ = false;
};

}  // namespace

Result<TrialOutcome> run_trial(const TrialSpec& spec, const PreparedSubject& subject,
                               const Golden* golden, Golden* read_golden_into, int interrupt_fd) {
  return Trial(spec, subject, golden, read_golden_into, interrupt_fd).run();
}

}  // namespace crashworthy
