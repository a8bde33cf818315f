#include "harness/experiment/trial.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "harness/experiment/conditions.h"
#include "harness/experiment/content.h"
#include "harness/experiment/launch.h"
#include "harness/experiment/observer.h"
#include "harness/experiment/output_log.h"
#include "harness/experiment/rerun.h"
#include "harness/experiment/stall_watch.h"
#include "harness/os/clock.h"
#include "harness/os/file.h"
#include "harness/os/pidfd.h"
#include "harness/process/process_tree.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::streamoff kStderrTail = 2000;
constexpr int kHangFactor = 10;  // Of the longest gap of the golden run.
// So long may the rest of a command's tree be silent and idle until it is not waited for any more.
constexpr std::int64_t kIdleOrphansNs = 3'000'000'000;
constexpr std::int64_t kLookSoonNs = 200'000'000;
constexpr int kCommandDepth = 3;  // Of a restarted command, below `crashworthy supervise`.
// Numbers of the probe's descriptors in the subject: far from those that programs open themselves.
constexpr int kRingNumber = 100;
constexpr int kEventNumber = 101;

// Of the file system of `path`.
std::optional<std::uint64_t> free_bytes(const fs::path& path) {
  struct statvfs room {};
  if (::statvfs(path.c_str(), &room) != 0) return std::nullopt;
  return room.f_bavail * room.f_frsize;
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

class Trial : private InjectedSubject {
 public:
  Trial(const TrialSpec& spec, const PreparedSubject& prepared, const Golden* golden, Golden* into,
        int interrupt_fd)
      : InjectedSubject(interrupt_fd),
        spec_(spec),
        prepared_(prepared),
        golden_(golden),
        golden_into_(into) {}

  ~Trial() override {
    subject_.reset();
    injections_.abandon();
    std::error_code ignored;
    fs::remove_all(spec_.scratch, ignored);
  }

  Result<TrialOutcome> run() {
    if (auto ready = prepare(); !ready) return give_up(ready.error());
    if (auto launched = launch(); !launched) return give_up(launched.error());
    supervise(launched_ns_ + spec_.timeout.count());
    outcome_.interrupted = interrupted_;
    if (interrupted_) return outcome_;
    end();
    if (auto judged = judge(); !judged) return give_up(judged.error());
    if (spec_.rerun && spec_.faults != nullptr) {
      if (auto done = rerun(); !done) return give_up(done.error());
      if (outcome_.interrupted) return outcome_;
    }
    if (failure_) return give_up(*failure_);
    phase("end");
    write_end();
    if (failure_) return *failure_;
    return outcome_;
  }

 private:
  void write_end() {
    json end{{"type", "end"},
             {"outcome", outcome_.ran_to_end ? "finished" : "ended_early"},
             {"ended", outcome_.ended},
             {"stderr", outcome_.stderr_tail},
             {"probe_dropped", ring_->dropped()},
             {"probe_gaps", ring_->gaps()},
             {"observer_overflowed", observer_->overflowed()},
             {"outputs", outputs_.totals()},
             {"processes_missed", processes_->overflowed()},
             {"processes_left_out", processes_->left_out()},
             {"stall", nullptr}};
    if (takes_too_much_) {
      end["stall"] = {{"kind", "disk"}, {"since_ns", gone_ns()}, {"cpu_ns", 0}};
    } else if (stall_) {
      end["stall"] = {{"kind", stall_kind_name(stall_->kind)},
                      {"since_ns", stall_->since_ns},
                      {"cpu_ns", stall_->cpu_ns}};
    }
    if (main_ended_) {
      const bool quiet = childless_ns_ != 0;
      end["orphans"] = orphans_;
      end["late_publications"] = outputs_.published_after(end_known_ns_);
      end["quiesced_ns"] = quiet ? json(std::max(childless_ns_, ended_ns_)) : json(nullptr);
      if (!quiet) end["quiesced_reason"] = why_not_quiet();
    }
    log(std::move(end));
  }

  const char* why_not_quiet() const {
    if (takes_too_much_) return "what was left of its tree took too much of the disk";
    if (linger_ns() == 0) return "what was left of its tree was ended at once";
    return orphans_idle_ ? "what was left of its tree was idle, and was ended"
                         : "what was left of its tree went on, and was ended";
  }

  Result<void> prepare() {
    if (auto opened = open(spec_.directory); !opened) return opened;
    auto setup = set_up_trial(prepared_, *spec_.arm, spec_.scratch, changes_inputs());
    if (!setup) return setup.error();
    setup_ = *std::move(setup);
    auto observer = OutputObserver::create(setup_.output_root);
    if (!observer) return observer.error();
    observer_ = std::move(*observer);
    const auto free = free_bytes(spec_.scratch);
    if (!free) return system_error("ask for the free room of " + spec_.scratch.string(), errno);
    free_at_start_ = *free;
    disk_bytes_ = std::min(spec_.disk_bytes.value_or(*free / 2), *free - *free / 10);
    write_header();
    phase("startup");
    if (golden_ != nullptr) {
      for (std::size_t i = 0; i < golden_->items.size(); ++i) item_of_[golden_->items[i].name] = i;
    }
    words_ = setup_.argv;
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
    static const FaultCase kNone;
    const FaultCase& faults = spec_.faults == nullptr ? kNone : *spec_.faults;
    auto armed = arm(faults.faults, spec_.triggers, spec_.seed, spec_.disarmed, spec_.schedule);
    for (const fs::path& input : plan_.inputs)
      input_names_.insert(input.lexically_relative(setup_.output_root).string());
    std::vector<OutputEvent> inputs;
    observer_->read(inputs);  // What the injections did there was no output.
    return armed;
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
         {"client", setup_.client},
         {"command", setup_.argv},
         {"environment", setup_.environment},
         {"longest_golden_gap_ns",
          golden_ == nullptr ? json(nullptr) : json(golden_->longest_gap_ns)},
         {"timeout_ns", spec_.timeout.count()},
         {"disk_bytes", disk_bytes_},
         {"linger_ns", linger_ns()},
         {"core_limit", 0},
         {"harness", harness_identity()},
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
    launch.argv = setup_.client;
    launch.argv.insert(launch.argv.end(), setup_.argv.begin(), setup_.argv.end());
    if (auto launched = InjectedSubject::launch(launch); !launched) return launched;
    outcome_.containment = containment_;
    log({{"type", "observer"},
         {"of", "outputs"},
         {"source", observer_->source()},
         {"reason", observer_->reason()}});
    const std::int64_t gap_ns = golden_ == nullptr ? 0 : golden_->longest_gap_ns;
    stall_watch_.emplace(launched_ns_, gap_ns, patience_ns(gap_ns));
    return {};
  }

  // What a fault makes it wait by its own will is no hang.
  std::int64_t patience_ns(std::int64_t gap_ns) const {
    std::int64_t patience = std::max(spec_.hang_after.count(), kHangFactor * gap_ns);
    if (spec_.faults == nullptr) return patience;
    for (const FaultSpec& fault : spec_.faults->faults) {
      for (const FaultKey& key : fault.row().keys) {
        const std::string name = std::string(key.key).substr(std::string("set.").size());
        if (key.type == KeyType::kDuration && fault.has(name)) patience += fault.number(name);
      }
    }
    return patience;
  }

  std::int64_t linger_ns() const override {
    return prepared_.spec.pipeline.empty() ? spec_.linger.count() : 0;
  }

  bool over_disk() const {
    const std::uint64_t free = free_bytes(spec_.scratch).value_or(free_at_start_);
    return free_at_start_ > free && free_at_start_ - free > disk_bytes_;
  }

  bool nothing_more(const std::vector<pid_t>& tree) override {
    const std::int64_t now = now_ns();
    if (over_disk()) {
      takes_too_much_ = true;
      timed_out_ = !main_ended_;
      return true;
    }
    if (last_output_ns_ != 0) stall_watch_->progress(last_output_ns_);
    stall_watch_->look(now, activity_of(tree));
    if (main_ended_) {
      orphans_idle_ = now - stall_watch_->quiet_from_ns() >= kIdleOrphansNs;
      return orphans_idle_;
    }
    // What is still to be done or undone by an injection may set it going again. One that only
    // looks, again and again, has the next look soon, twice in a row.
    const std::int64_t next_ns = injections_.next_ns(*this);
    const bool only_looks = next_ns == INT64_MAX || next_ns - now <= kLookSoonNs;
    const bool nothing_due = std::exchange(only_looks_, only_looks) && only_looks;
    // Pools, and supervised items, have deadlines of their own; others wait for the time-out.
    if (golden_ == nullptr || isolated() || !nothing_due) return false;
    stall_ = stall_watch_->certain(now);
    timed_out_ = stall_.has_value();
    return timed_out_;
  }

  int output_fd() const override { return observer_->fd(); }
  void read_outputs() override {
    std::vector<OutputEvent> events;
    observer_->read(events);
    for (OutputEvent& event : events) {
      // An input that comes late, or is read, is no output.
      if (input_names_.contains(event.name) && !item_of_.contains(event.name)) continue;
      if (publishes(event.change)) {
        if (first_output_ns_ == 0) first_output_ns_ = event.time_ns;
        last_output_ns_ = std::max(last_output_ns_, event.time_ns);
        if (!delivering_) phase("delivering");
        delivering_ = true;
      }
      outputs_.add(std::move(event));
    }
    // While they are there: how the subject knows them.
    for (const pid_t pid : observer_->new_writers()) processes_->name_now(pid);
  }

  void end() {
    if (timed_out_ && !stall_ && !takes_too_much_) stall_ = stall_watch_->at_timeout(now_ns());
    end_subject();
    outputs_.add_writers(*observer_);
    outcome_.ended = main_ended_ ? main_status_.describe() : how_it_did_not_end();
    outcome_.duration_ns = duration_ns();
    outcome_.ran_to_end = main_ended_ && !timed_out_ && main_status_.exited() &&
                          std::find(setup_.complete_codes.begin(), setup_.complete_codes.end(),
                                    main_status_.exit_code()) != setup_.complete_codes.end();
    outcome_.stderr_tail = tail_of(spec_.scratch / "stderr");
    if (injections_.empty()) return;
    phase("check_injection");
    judge_injections(supervision_events());
  }

  std::string how_it_did_not_end() const {
    if (takes_too_much_) return fmt::format("took more than {} MiB of the disk", disk_bytes_ >> 20);
    const std::int64_t waited_ns = now_ns() - launched_ns_;
    if (waited_ns >= spec_.timeout.count() || !stall_) {
      return fmt::format("did not end within {}",
                         format_duration(static_cast<double>(spec_.timeout.count())));
    }
    return fmt::format("{}: neither output nor processor time for {}",
                       stall_->kind == StallKind::kStopped ? "was stopped" : "hung",
                       format_duration(static_cast<double>(now_ns() - stall_->since_ns)));
  }

  // How the command's incarnations ended, as `crashworthy supervise` saw it.
  std::vector<ObservedEnd> supervision_events() const {
    std::vector<ObservedEnd> ends;
    if (setup_.events.empty()) return ends;
    std::ifstream file(setup_.events);
    for (std::string line; std::getline(file, line);) {
      json event = json::parse(line, nullptr, false);
      if (!event.is_object()) continue;  // The last one, cut off by a fault.
      if (event.value("event", "") == "ended" && event.contains("raw_status")) {
        ends.push_back({event.value("pid", 0), WaitStatus::from_raw(event.value("raw_status", 0)),
                        event.value("time_ns", std::int64_t{0})});
      }
    }
    return ends;
  }

  Result<void> judge() {
    phase("check");
    std::error_code failure;
    if (fs::is_symlink(setup_.output_root,
                       failure)) {  // The subject put a link in its place: there are no outputs.
      fs::remove(setup_.output_root, failure);
      log({{"type", "extra_output"},
           {"kind", "extra"},
           {"name", "the output directory itself, replaced by a link"}});
    }
    if (golden_into_ != nullptr) return read_golden_run();
    if (golden_->exit_status_only()) {
      ItemVerdicts verdict;
      verdict.classes = {outcome_.ran_to_end ? ItemClass::kOk : ItemClass::kUnfinished};
      if (outcome_.ran_to_end) outputs_.add({OutputChange::kClosed, kExitStatusItem, ended_ns_, 0});
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

  // As a user would: the same words in the same directory, in which lies what the trial has left.
  Result<void> rerun() {
    phase("rerun");
    LaunchSpec launch;
    launch.argv = words_;
    launch.environment = setup_.environment;
    launch.directory = setup_.directory;
    launch.stdout_file = spec_.scratch / "rerun-stdout";
    launch.stderr_file = spec_.scratch / "rerun-stderr";
    const RerunBounds bounds{spec_.timeout, spec_.linger, [this] { return over_disk(); }};
    auto again = run_again(launch, bounds, interrupt_fd());
    if (!again) return again.error();
    outcome_.interrupted = again->interrupted;
    if (again->interrupted) return {};
    const bool finished = again->failure.empty() && again->status.success();
    ItemVerdicts verdicts;
    if (golden_->exit_status_only()) {
      verdicts.classes = {finished ? ItemClass::kOk : ItemClass::kUnfinished};
    } else {
      auto checked = check_outputs(*golden_, setup_.output_root, setup_.patterns, input_names_, {},
                                   finished, spec_.scratch);
      if (!checked) return checked.error();
      verdicts = *std::move(checked);
    }
    json items = json::object();
    for (std::size_t i = 0; i < kItemClassCount; ++i) {
      const auto which = static_cast<ItemClass>(i);
      items[item_class_name(which)] =
          std::count(verdicts.classes.begin(), verdicts.classes.end(), which);
    }
    log({{"type", "rerun"},
         {"outcome", finished ? "finished" : "ended_early"},
         {"ended", again->failure.empty() ? again->status.describe() : again->failure},
         {"duration_ns", again->duration_ns},
         {"stderr", tail_of(launch.stderr_file)},
         {"items", items},
         {"duplicated", verdicts.duplicated.size()},
         {"misplaced", verdicts.misplaced.size()},
         {"extra", verdicts.extra},
         {"stale_temporary", verdicts.stale_temporary}});
    return {};
  }

  Result<void> read_golden_run() {
    if (!outcome_.ran_to_end) return {};
    auto golden = read_golden(setup_.output_root, setup_.patterns, prepared_.items, spec_.scratch);
    if (!golden) {
      Error error = golden.error().with_context("what the fault-free run has left");
      if (error.sys_errno == EACCES) error.kind = ErrorKind::kNoData;
      return error;
    }
    *golden_into_ = *std::move(golden);
    golden_into_->duration_ns = outcome_.duration_ns;
    golden_into_->longest_gap_ns = outputs_.longest_gap(launched_ns_, end_known_ns_);
    remove_inputs_from_items(*golden_into_);
    if (golden_into_->items.empty() && prepared_.spec.pipeline.empty() && setup_.patterns.empty()) {
      golden_into_->items = {{kExitStatusItem}};
      golden_into_->outputs = {{outcome_.ended, outcome_.ended, {}, {}, {}}};
    }
    return keep_outputs();
  }

  // Moved, not copied: the trial's own directory ends with it.
  Result<void> keep_outputs() {
    if (spec_.keep_outputs.empty()) return {};
    std::error_code failure;
    fs::rename(setup_.output_root, spec_.keep_outputs, failure);
    if (failure == std::errc::no_such_file_or_directory) return {};  // It removed all of it.
    if (failure) return system_error("keep the golden run's outputs", failure.value());
    golden_into_->files = spec_.keep_outputs;
    return {};
  }

  // A command's own inputs lie in its directory; they are no outputs unless it changed them.
  void remove_inputs_from_items(Golden& golden) const {
    if (!prepared_.spec.pipeline.empty() || !setup_.patterns.empty()) return;
    Golden kept = golden;
    kept.items.clear();
    kept.outputs.clear();
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
    golden = std::move(kept);
  }

  void write_verdicts(const ItemVerdicts& verdicts) {
    std::vector<ItemRecord> records = outputs_.item_records(item_of_, *processes_);
    for (json& line : outputs_.other_lines(item_of_, *processes_)) log(std::move(line));
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
    write_details(verdicts, now, records);
    if (auto written = history_->write_items(records); !written) failure_ = written.error();
  }

  // What is wrong with each corrupt item, and what lies there that belongs to none.
  void write_details(const ItemVerdicts& verdicts, std::int64_t now,
                     std::vector<ItemRecord>& records) {
    for (const BadOutput& bad : verdicts.bad) {
      if (bad.state == ContentState::kTorn || bad.state == ContentState::kEmpty) {
        const bool torn = bad.state == ContentState::kTorn;
        records.push_back(
            outside_record(torn ? ItemEvent::kTorn : ItemEvent::kEmpty, bad.item, 0, now));
      }
      log({{"type", "bad_output"},
           {"item", bad.item},
           {"name", golden_->items[bad.item].name},
           {"state", content_state_name(bad.state)},
           {"difference", bad.difference}});
    }
    for (const std::string& name : verdicts.extra)
      log({{"type", "extra_output"}, {"kind", "extra"}, {"name", name}});
    for (const std::string& name : verdicts.stale_temporary)
      log({{"type", "extra_output"}, {"kind", "stale_temporary"}, {"name", name}});
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

  bool restarts() const { return spec_.arm->supervision == Supervision::kRestart; }
  bool isolated() const override {
    return spec_.arm->supervision == Supervision::kIsolate ||
           spec_.arm->supervision == Supervision::kSupervised || prepared_.spec.by_items();
  }
  bool supervised() const override {
    return spec_.arm->supervision == Supervision::kSupervised || restarts();
  }
  // client of a service -> supervise -> the two processes of the command's shim -> the command.
  std::int32_t main_pid() const override {
    return pid_at_depth((serves() ? 1 : 0) + (restarts() ? kCommandDepth : 0));
  }
  std::int32_t supervisor_pid() const override { return pid_at_depth(serves() ? 1 : 0); }
  bool serves() const { return prepared_.spec.service.has_value(); }
  std::int32_t pid_at_depth(int depth) const {
    if (depth == 0) return main_pid_;
    const std::vector<TreeProcess> processes = descendants_of(subject_->main_pid());
    std::vector<TreeProcess> level{{subject_->main_pid(), 0}};
    for (int i = 0; i < depth && !level.empty(); ++i) {
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
  Moment moment() const override {
    Moment moment = InjectedSubject::moment();
    // A command that has no probe tells nothing of the kind.
    const bool tells = !prepared_.spec.pipeline.empty() || prepared_.spec.by_items() || serves();
    if (!tells && ready_ns_ == 0) moment.ready_ns = launched_ns_;
    if (serves() && !records_.empty()) moment.ready_ns = records_.front().time_ns;
    return moment;
  }

  const TrialSpec& spec_;
  const PreparedSubject& prepared_;
  const Golden* golden_;
  Golden* golden_into_;
  TrialSetup setup_;
  std::vector<std::string> words_;  // The command, before anything was done to it.
  std::optional<OutputObserver> observer_;
  std::array<UniqueFd, 3> streams_;
  std::set<std::string> input_names_;  // Of files in the output root that are inputs.
  std::map<std::string, std::size_t> item_of_;
  OutputLog outputs_;
  std::optional<StallWatch> stall_watch_;
  std::optional<Stall> stall_;
  std::uint64_t free_at_start_ = 0;  // Bytes of the file system that it works on.
  std::uint64_t disk_bytes_ = 0;     // So many of them it may take.
  bool takes_too_much_ = false;
  bool delivering_ = false;
  bool orphans_idle_ = false;
  bool only_looks_ = false;
  TrialOutcome outcome_;
};

}  // namespace

Result<TrialOutcome> run_trial(const TrialSpec& spec, const PreparedSubject& subject,
                               const Golden* golden, Golden* read_golden_into, int interrupt_fd) {
  return Trial(spec, subject, golden, read_golden_into, interrupt_fd).run();
}

}  // namespace crashworthy
