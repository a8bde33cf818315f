#include "harness/experiment/inject.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <pwd.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "harness/experiment/conditions.h"
#include "harness/experiment/interrupts.h"
#include "harness/experiment/launch.h"
#include "harness/os/clock.h"
#include "harness/os/file.h"
#include "harness/process/scratch_guard.h"

extern char** environ;

namespace crashworthy {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::size_t kMaxDescriptors = 256;  // That are passed on.
constexpr int kMaxNames = 1000;               // Of records of the same second.

// What we were started with and pass on: all descriptors that are not close-on-exec.
std::vector<int> inherited_descriptors() {
  std::vector<int> inherited;
  std::error_code failure;
  for (const auto& entry : fs::directory_iterator("/proc/self/fd", failure)) {
    const int number = std::atoi(entry.path().filename().c_str());
    const int flags = ::fcntl(number, F_GETFD);
    if (flags >= 0 && (flags & FD_CLOEXEC) == 0) inherited.push_back(number);
  }
  std::sort(inherited.begin(), inherited.end());
  if (inherited.size() > kMaxDescriptors) inherited.resize(kMaxDescriptors);
  return inherited;
}

// The command is in a session of its own: it reads from our terminal as it likes, but no job
// control stops it. So we do for it what a shell's job would see:
// - started in the background, we must not take what is typed for the shell: its stdin is empty;
// - what it made of the terminal's settings before it died is put back.
class Terminal {
 public:
  Terminal() {
    const pid_t foreground = ::tcgetpgrp(STDIN_FILENO);
    terminal_ = foreground >= 0;
    ours_ = terminal_ && foreground == ::getpgrp() && ::tcgetattr(STDIN_FILENO, &settings_) == 0;
  }
  ~Terminal() {
    if (ours_ && ::tcgetpgrp(STDIN_FILENO) == ::getpgrp())
      ::tcsetattr(STDIN_FILENO, TCSADRAIN, &settings_);
  }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;
  bool in_background() const { return terminal_ && !ours_; }

 private:
  bool terminal_ = false;
  bool ours_ = false;
  termios settings_{};
};

// Ctrl-Z would stop us and our clock, but not the command: it does nothing meanwhile.
class NoStop {
 public:
  NoStop() : before_(::signal(SIGTSTP, SIG_IGN)) {}
  ~NoStop() { ::signal(SIGTSTP, before_); }
  NoStop(const NoStop&) = delete;
  NoStop& operator=(const NoStop&) = delete;

 private:
  void (*before_)(int);
};

std::vector<std::string> own_environment() {
  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable)
    variables.emplace_back(*variable);
  return variables;
}

// Of a run around us: they name descriptors that are not ours to hand on.
void drop_variables_of_ours(std::vector<std::string>& environment) {
  environment.erase(std::remove_if(environment.begin(), environment.end(),
                                   [](const std::string& variable) {
                                     return variable.starts_with("CRASHWORTHY_PROBE=") ||
                                            variable.starts_with("CRASHWORTHY_ALLOC=") ||
                                            variable.starts_with("CRASHWORTHY_POINTS=");
                                   }),
                    environment.end());
}

// The files among the words of a command, which it may read.
std::vector<fs::path> files_named_by(const std::vector<std::string>& argv,
                                     const fs::path& directory) {
  std::vector<fs::path> files;
  std::error_code failure;
  for (std::size_t i = 1; i < argv.size(); ++i) {
    const fs::path file = (directory / argv[i]).lexically_normal();
    if (fs::is_regular_file(file, failure)) files.push_back(file);
  }
  return files;
}

// What of an evidence step is of interest to people: "status killed by SIGKILL".
std::string proof_text(const json& evidence) {
  static const std::set<std::string> kLeftOut{"type", "step",     "name",     "time_ns",  "raw",
                                              "pid",  "host_pid", "host_tid", "arguments"};
  std::string text;
  for (const auto& [key, value] : evidence.items()) {
    if (kLeftOut.contains(key) || key.ends_with("_ns") || value.is_null()) continue;
    const std::string shown = value.is_string()   ? value.get<std::string>()
                              : value.is_object() ? "(" + proof_text(value) + ")"
                                                  : value.dump();
    text += (text.empty() ? "" : ", ") + key + " " + shown;
  }
  return text;
}

class InjectRun : private InjectedSubject {
 public:
  InjectRun(const InjectOptions& options, const std::vector<int>& inherited,
            const Interrupts& interrupts, const fs::path& record, const fs::path& scratch)
      : InjectedSubject(interrupts.fd()),
        options_(options),
        inherited_(inherited),
        interrupts_(interrupts),
        record_(record),
        scratch_(scratch) {}

  Result<InjectResult> run() {
    if (auto armed = prepare(); !armed) return give_up(armed.error());
    if (auto launched = start(); !launched) return give_up(launched.error());
    supervise(options_.timeout ? launched_ns_ + options_.timeout->count() : INT64_MAX);
    end_subject();
    if (interrupted_) result_.interrupted_by = interrupts_.take();
    phase("check_injection");
    judge_injections({});
    if (failure_) return give_up(*failure_);
    tell();
    log({{"type", "end"},
         {"outcome", interrupted_ ? "interrupted"
                     : timed_out_ ? "ended_early"
                                  : "finished"},
         {"ended", result_.ended},
         {"probe_dropped", ring_->dropped()},
         {"probe_gaps", ring_->gaps()}});
    if (failure_) return *failure_;
    return result_;
  }

 private:
  Result<void> prepare() {
    if (auto opened = open(record_); !opened) return opened;
    plan_.argv = options_.command;
    plan_.environment = options_.environment ? *options_.environment : own_environment();
    drop_variables_of_ours(plan_.environment);
    plan_.directory = options_.directory;
    plan_.scratch = scratch_;
    plan_.inputs = files_named_by(plan_.argv, plan_.directory);
    plan_.no_mounts = why_no_mounts();
    log_header();
    phase("startup");
    for (const int number : inherited_) {
      if (number != STDIN_FILENO || !terminal_.in_background())
        plan_.descriptors.emplace_back(number, number);
    }
    const int ring = plan_.inherit(ring_->ring_fd());
    const int event = plan_.inherit(ring_->event_fd());
    plan_.environment.push_back(ProbeRing::environment(ring, event));
    return arm(options_.faults, triggers(), options_.seed, options_.disarmed, options_.schedule);
  }

  std::vector<Trigger> triggers() const {
    if (!options_.triggers.empty()) return options_.triggers;
    std::vector<Trigger> resolved;
    for (const FaultSpec& fault : options_.faults) {
      resolved.push_back(resolve(fault.trigger, fault.trigger_kind(),
                                 derive_seed(options_.seed, "trigger", resolved.size()), 0));
    }
    return resolved;
  }

  void log_header() {
    std::string names;
    for (const FaultSpec& fault : options_.faults) names += (names.empty() ? "" : "+") + fault.name;
    log({{"type", "trial"},
         {"schema", kSchemaVersion},
         {"run", "inject"},
         {"trial", 1},
         {"block", 1},
         {"order", 0},
         {"arm", "command"},
         {"fault", names},
         {"seed", options_.seed},
         {"disarmed", options_.disarmed},
         {"items", 0},
         {"deliverable", 0},
         {"command", plan_.argv},
         {"directory", plan_.directory.string()},
         {"environment", plan_.environment},
         {"timeout_ns", options_.timeout ? json(options_.timeout->count()) : json(nullptr)},
         {"core_limit", nullptr},
         {"harness", harness_identity()},
         {"started", utc_timestamp()},
         {"conditions", read_conditions()}},
        true);
  }

  Result<void> start() {
    LaunchSpec spec = launch_spec(plan_);
    spec.core_limit.reset();  // As ours.
    return launch(spec);
  }

  void tell() {
    result_.ended = interrupted_  ? "was ended with us"
                    : main_ended_ ? main_status_.describe()
                    : timed_out_  ? "did not end in time"
                                  : "ended";
    if (main_ended_ && main_status_.exited()) result_.exit_code = main_status_.exit_code();
    if (main_ended_ && main_status_.signalled()) result_.signal = main_status_.signal();
    result_.duration_ns = duration_ns();
    result_.containment = containment_;
    result_.timed_out = timed_out_;
    result_.record = record_;
    result_.all_confirmed =
        std::all_of(result_.injections.begin(), result_.injections.end(),
                    [](const json& one) { return one["outcome"] == "confirmed"; });
  }

  void on_event(const json& event) override {
    if (event["type"] == "injection" && event["step"] == "evidence") evidence_ = event;
    if (event["type"] == "injection" && event["step"] == "plan") evidence_ = nullptr;
    if (event["type"] != "injection_result") return;
    json result = event;
    result.erase("type");
    result["proof"] = evidence_.is_null() ? json(nullptr) : json(proof_text(evidence_));
    result_.injections.push_back(std::move(result));
    evidence_ = nullptr;
  }

  // Who has told of itself as a worker and is another process than the main one.
  bool isolated() const override {
    const std::vector<WorkerState> workers = tracker_.alive();
    return std::any_of(workers.begin(), workers.end(),
                       [this](const WorkerState& worker) { return worker.pid != main_pid_; });
  }
  bool supervised() const override { return isolated(); }
  Moment moment() const override {
    Moment moment = InjectedSubject::moment();
    if (ready_ns_ == 0) moment.ready_ns = launched_ns_;  // It may have no probe.
    return moment;
  }

  const InjectOptions& options_;
  const std::vector<int>& inherited_;
  const Interrupts& interrupts_;
  fs::path record_;
  fs::path scratch_;
  Terminal terminal_;
  InjectResult result_;
  json evidence_;
};

Error record_error(const fs::path& directory, const std::string& what) {
  return usage_error("unable to make the record '" + directory.string() + "': " + what,
                     "give a new or an empty, writable directory with --out");
}

// 0, 1 and 2 are somebody's, so that nothing of ours ever takes their numbers.
void occupy_standard_descriptors() {
  int fd = 0;
  do {
    fd = ::open("/dev/null", O_RDWR);  // NOLINT(android-cloexec-open): for the command too
  } while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd > STDERR_FILENO) ::close(fd);
}

}  // namespace

Result<fs::path> state_directory(const std::string& family) {
  const char* state = std::getenv("XDG_STATE_HOME");
  if (state != nullptr && fs::path(state).is_absolute())
    return fs::path(state) / "crashworthy" / family;
  const char* home = std::getenv("HOME");
  const passwd* user = home == nullptr || *home == '\0' ? ::getpwuid(::getuid()) : nullptr;
  if (user != nullptr) home = user->pw_dir;
  if (home == nullptr || !fs::path(home).is_absolute()) {
    return usage_error("no place for the record: neither XDG_STATE_HOME nor HOME names a directory",
                       "give one with --out");
  }
  return fs::path(home) / ".local" / "state" / "crashworthy" / family;
}

std::string record_name(const std::vector<FaultSpec>& faults) {
  const std::string& first = faults.front().fault;
  return faults.size() == 1 ? first : fmt::format("{}+{}", first, faults.size() - 1);
}

Result<RecordDirectory> make_record_directory(const fs::path& out, const std::string& family,
                                              const std::string& name) {
  std::error_code failure;
  fs::path directory = out;
  if (out.empty()) {
    auto state = state_directory(family);
    if (!state) return state.error();
    directory = *state / (utc_timestamp() + "-" + name);
  }
  directory = fs::absolute(directory, failure);
  if (directory.has_parent_path()) fs::create_directories(directory.parent_path(), failure);
  if (failure) return record_error(directory, failure.message());
  const fs::path first = directory;
  RecordDirectory made;
  made.path = directory;
  // Exclusive: two records never share one. The environment is in it: nobody else's business.
  for (int n = 2; ::mkdir(made.path.c_str(), 0700) != 0; ++n) {
    const int number = errno;
    if (number != EEXIST) return record_error(made.path, std::strerror(number));
    if (!out.empty()) {
      const bool empty = fs::is_empty(made.path, failure);
      if (failure) return record_error(made.path, failure.message());
      if (!empty) return record_error(made.path, "it is not empty");
      if (::access(made.path.c_str(), W_OK | X_OK) != 0)
        return record_error(made.path, std::strerror(errno));
      return made;
    }
    if (n > kMaxNames) return record_error(first, "there are too many of this second");
    made.path = first.string() + "-" + std::to_string(n);
  }
  made.made = true;
  return made;
}

Result<InjectResult> inject(const InjectOptions& options) {
  if (auto enough = check_descriptor_limit(); !enough) return enough.error();
  occupy_standard_descriptors();
  const std::vector<int> inherited = inherited_descriptors();
  auto record = make_record_directory(options.out, "inject", record_name(options.faults));
  if (!record) return record.error();
  const Interrupts interrupts;  // From here on a wish to stop is heeded in the loop.
  const NoStop no_stop;
  auto done = [&]() -> Result<InjectResult> {
    auto scratch = ScratchGuard::create(record->path / "scratch");
    if (!scratch) return scratch.error();
    InjectOptions resolved = options;
    std::error_code failure;
    if (resolved.directory.empty()) resolved.directory = fs::current_path(failure);
    if (failure) return usage_error("the working directory is gone: " + failure.message());
    auto run = InjectRun(resolved, inherited, interrupts, record->path, scratch->path()).run();
    auto removed = scratch->remove();
    if (run && !removed) return removed.error();
    return run;
  }();
  if (!done && done.error().kind == ErrorKind::kUsage) {  // Nothing was started: no record.
    std::error_code ignored;
    for (const char* file : {"history.jsonl", "items.bin"})
      fs::remove(record->path / file, ignored);
    if (record->made) fs::remove(record->path, ignored);
  }
  return done;
}

}  // namespace crashworthy
