// input.*: damaged, missing, doubled, exchanged and late input files.
//
// The user's files are never touched. Where the trial has inputs of its own, the victim file is
// replaced there; else a changed copy is mounted over it, which only the subject sees. inotify
// tells that the changed file was opened: it watches the inode, whatever namespace it is opened
// from. A file is missed where its directory is listed without it (inotify again) or where a call
// on its name fails with ENOENT (seen by tracing the subject until then).
#include <fcntl.h>
#include <fnmatch.h>
#include <glob.h>
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>

#include "faults/errno_witness.h"
#include "faults/image_header.h"
#include "faults/mechanisms.h"
#include "harness/os/clock.h"
#include "harness/os/crc32c.h"
#include "harness/os/file.h"

namespace crashworthy {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

// Of what a changed file tells: enough to know that it was read, and not only written over.
constexpr std::uint32_t kFileEvents = IN_OPEN | IN_ACCESS | IN_CLOSE_NOWRITE;
constexpr std::uint32_t kDirectoryEvents = IN_ACCESS | IN_ONLYDIR;
// Their path is the first argument, or the second beside a directory.
constexpr int kCallsAtPath[] = {SYS_openat, SYS_openat2,   SYS_newfstatat,
                                SYS_statx,  SYS_faccessat, SYS_faccessat2};
constexpr int kCallsByPath[] = {
#ifdef SYS_open
    SYS_open, SYS_stat, SYS_lstat, SYS_access,
#endif
    SYS_truncate};
constexpr int kMaxNames = 1000;  // Tried for a file of ours.

std::string hex(std::uint32_t value) {
  std::array<char, 9> text{};
  std::snprintf(text.data(), text.size(), "%08x", value);
  return text.data();
}

class InputInjection : public Injection {
 public:
  explicit InputInjection(InjectionSetup setup)
      : Injection(std::move(setup)), kind_(fault_.fault.substr(fault_.fault.find('.') + 1)) {}

  std::vector<int> descriptors() const override {
    return inotify_.valid() ? std::vector<int>{inotify_.get()} : std::vector<int>{};
  }

 protected:
  Result<void> prepare(LaunchPlan& launch) override {
    own_ = launch.inputs_are_copies;
    const std::vector<fs::path> files = candidates(launch);
    if (files.empty() && fault_.has("path") && launch.inputs_are_copies) {
      skip("no input file matches '" + fault_.text("path") + "'");  // The other trials go on.
      return {};
    }
    if (files.empty() && fault_.has("path")) {
      return usage_error(fault_.name + ": no input file matches '" + fault_.text("path") + "'",
                         "write it as the command would, from its working directory");
    }
    if (files.empty()) {
      skip("the inputs are not known: name them with set.path=GLOB");
      return {};
    }
    if (!own_ && (!mountable() || !launch.no_mounts.empty())) {
      skip(!mountable() ? "the user's own files are not moved, and a subject cannot be shown "
                          "others here: it works on the copies of `run --inputs`"
                        : launch.no_mounts);
      return {};
    }
    if (auto chosen = choose(files); !chosen) return chosen;
    if (changes_.empty()) return {};
    inotify_.reset(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    if (!inotify_.valid()) return system_error("watch the changed input", errno);
    for (Change& change : changes_) {
      if (auto applied = apply(change, launch); !applied) return applied;
    }
    launch.before_exec.push_back([this](pid_t pid) -> Result<void> {
      forget_events();
      return hides() ? watch_names(pid) : Result<void>();
    });
    return {};
  }

  void on_launched(SubjectView& subject) override {
    appears_ns_ = late() ? subject.moment().launched_ns + fault_.number("delay") : 0;
  }

  void work(SubjectView&) override {
    read_events();
    if (late() && hidden() && now_ns() >= appears_ns_) appear();
  }

  std::int64_t next_work_ns() const override {
    return late() && hidden() && appears_ns_ != 0 ? appears_ns_ : INT64_MAX;
  }

  Outcome confirm(const InjectionEvidence&) override {
    read_events();
    if (witness_) witness_->stop();
    std::size_t met = 0;
    std::int64_t first_ns = INT64_MAX;
    for (const Change& change : changes_) {
      log_step("evidence", evidence_of(change));
      if (met_ns(change) == 0) continue;
      ++met;
      first_ns = std::min(first_ns, met_ns(change));
    }
    if (met == changes_.size()) return confirmed(first_ns, names());
    if (met > 0) {
      return indeterminate(std::to_string(met) + " of " + std::to_string(changes_.size()) +
                           " changed inputs were opened");
    }
    if (hides() && !not_traced_.empty()) {
      return indeterminate(names() +
                           " was missing, but whether the subject looked for it could "
                           "not be watched: " +
                           not_traced_);
    }
    if (hides())
      return not_activated("the subject did not look for " + names() + " while it was missing");
    return not_activated(names() + " was never opened");
  }

  std::string heal() override {
    if (witness_) witness_->stop();
    if (changes_.empty() || disarmed_) return "nothing to undo";
    return own_ ? "the changed inputs end with the trial; the originals were not touched"
                : "the mounts ended with the subject; the files were not touched";
  }

 private:
  // One file and what becomes of it.
  struct Change {
    fs::path file;        // The subject's name of it.
    std::string content;  // To be.
    std::string before;   // Digests.
    std::string after;
    std::size_t size_before = 0;
    fs::path put_aside;          // Where it is while it is missing.
    fs::path copy;               // input.duplicate: the other one.
    int watch = -1;              // Of inotify: the file, or the directory that it is missing in.
    int later_watch = -1;        // Of the file that appears later.
    std::int64_t listed_ns = 0;  // Its directory was listed while it was missing.
    std::int64_t missed_ns = 0;  // A call on its name failed.
    std::int64_t opened_ns = 0;
    bool read = false;    // Its bytes were read by a call (a mapping shows no reading).
    bool reader = false;  // Somebody had it open only for reading.
  };

  bool late() const { return kind_ == "late"; }
  bool hides() const { return late() || kind_ == "missing"; }
  // Those that a mounted copy can do.
  bool mountable() const { return !hides() && kind_ != "duplicate"; }
  bool hidden() const { return !changes_.empty() && !changes_.front().put_aside.empty(); }

  // ---- Which file ----

  std::vector<fs::path> candidates(LaunchPlan& launch) {
    directory_ = launch.directory;
    std::vector<fs::path> files;
    const std::string pattern = fault_.has("path") ? fault_.text("path") : "";
    for (const fs::path& input : launch.inputs) {
      if (pattern.empty() || ::fnmatch(pattern.c_str(), name_of(input).c_str(), 0) == 0)
        files.push_back(input);
    }
    // What is named beyond the inputs is the user's own.
    if (files.empty() && !pattern.empty()) {
      files = expand(pattern);
      own_ = false;
    }
    std::sort(files.begin(), files.end());
    return files;
  }

  std::vector<fs::path> expand(const std::string& pattern) const {
    glob_t matches{};
    std::vector<fs::path> files;
    std::error_code failure;
    if (::glob((directory_ / pattern).c_str(), 0, nullptr, &matches) == 0) {
      for (std::size_t i = 0; i < matches.gl_pathc; ++i) {
        if (fs::is_regular_file(matches.gl_pathv[i], failure))
          files.push_back(fs::canonical(matches.gl_pathv[i], failure));
      }
    }
    ::globfree(&matches);
    return files;
  }

  // As the experiment names it.
  std::string name_of(const fs::path& file) const {
    const fs::path relative = file.lexically_relative(directory_);
    const bool below = !relative.empty() && *relative.begin() != "..";
    return below ? relative.string() : file.filename().string();
  }

  // Draws files until enough of them fit; skips when there are too few.
  Result<void> choose(std::vector<fs::path> files) {
    random_.shuffle(files);
    const bool pair = kind_ == "reorder";
    const auto wanted = static_cast<std::size_t>(pair ? 2 : fault_.number("count"));
    for (const fs::path& file : files) {
      auto content = read_file(file);
      if (!content) return content.error();
      Change change;
      change.file = file;
      change.size_before = content->size();
      change.before = hex(crc32c(content->data(), content->size()));
      if (pair) {
        // The same content under two names would be no exchange.
        if (!changes_.empty() && changes_.front().content == *content) continue;
        change.content = *std::move(content);
      } else {
        const std::string old = *content;
        auto changed = changed_content(*std::move(content));
        const bool same_is_right = hides() || kind_ == "duplicate";
        if (!changed || (!same_is_right && *changed == old)) continue;
        change.content = *std::move(changed);
      }
      changes_.push_back(std::move(change));
      if (changes_.size() == wanted) break;
    }
    if (changes_.size() < wanted) {
      skip(std::to_string(changes_.size()) + " of the " + std::to_string(files.size()) +
           " inputs can be changed so, and " + std::to_string(wanted) + " must be" +
           (kind_ == "huge_header" ? ": it takes PNG, JPEG, BMP or PNM" : ""));
      changes_.clear();
      return {};
    }
    if (pair) std::swap(changes_[0].content, changes_[1].content);
    for (const Change& change : changes_) {
      log_step("chosen", {{"file", name_of(change.file)},
                          {"bytes", change.size_before},
                          {"crc32c", change.before},
                          {"of", files.size()}});
    }
    return {};
  }

  // ---- What becomes of it ----

  std::optional<std::string> changed_content(std::string content) {
    if (kind_ == "truncate") return truncated(std::move(content));
    if (kind_ == "bitflip") return flipped(std::move(content));
    if (kind_ == "empty") return std::string();
    if (kind_ == "garbage") {
      for (char& byte : content) byte = static_cast<char>(random_.next());
      return content;
    }
    if (kind_ == "huge_header") {
      return with_image_size(std::move(content), static_cast<std::uint32_t>(std::min<std::int64_t>(
                                                     fault_.number("pixels"), UINT32_MAX)));
    }
    return content;
  }

  std::string truncated(std::string content) const {
    const auto number = static_cast<std::size_t>(fault_.number("keep"));
    const bool share = fault_.text("keep").back() == '%';
    content.resize(std::min(content.size(), share ? content.size() * number / 100 : number));
    return content;
  }

  std::optional<std::string> flipped(std::string content) {
    const auto skipped = static_cast<std::size_t>(fault_.number("skip"));
    const auto bits = static_cast<std::size_t>(fault_.number("bits"));
    const std::size_t room = content.size() > skipped ? 8 * (content.size() - skipped) : 0;
    if (bits == 0 || bits > room) return std::nullopt;
    std::vector<std::size_t> taken;
    while (taken.size() < bits) {
      const std::size_t bit = random_.below(room);
      if (std::find(taken.begin(), taken.end(), bit) != taken.end()) continue;
      taken.push_back(bit);
      content[skipped + bit / 8] = static_cast<char>(content[skipped + bit / 8] ^ (1 << bit % 8));
    }
    return content;
  }

  Result<void> apply(Change& change, LaunchPlan& launch) {
    if (hides()) return hide(change, launch);
    if (kind_ == "duplicate") return duplicate(change, launch);
    if (own_ && disarmed_) return watch(change, change.file);
    auto original = read_file(change.file);
    if (!original) return original.error();
    // Disarmed, it is a true copy.
    auto made = make(change, disarmed_ ? *original : change.content, launch);
    if (!made) return made.error();
    if (!own_) {
      launch.mounts.push_back({made->string(), change.file, ""});
      return {};
    }
    return move(*made, change.file);
  }

  // A file of that content, like the victim in all else.
  Result<fs::path> make(Change& change, const std::string& content, const LaunchPlan& launch) {
    std::error_code failure;
    fs::path file = free_name(launch.scratch);
    if (auto done = write_file_atomically(file, content); !done) return done.error();
    fs::permissions(file, fs::status(change.file, failure).permissions(), failure);
    fs::last_write_time(file, fs::last_write_time(change.file, failure), failure);
    if (auto done = read_back(change, file); !done) return done.error();
    if (auto done = watch(change, file); !done) return done.error();
    return file;
  }

  // It takes the name from what has it now, which may be a link to the original.
  static Result<void> move(const fs::path& file, const fs::path& name) {
    if (::rename(file.c_str(), name.c_str()) == 0) return {};
    return system_error("rename '" + file.string() + "' to '" + name.string() + "'", errno);
  }

  Result<void> read_back(Change& change, const fs::path& file) {
    auto content = read_file(file);
    if (!content) return content.error();
    change.after = hex(crc32c(content->data(), content->size()));
    log_step("changed", {{"file", name_of(change.file)},
                         {"bytes_before", change.size_before},
                         {"bytes", content->size()},
                         {"crc32c_before", change.before},
                         {"crc32c", change.after},
                         {"how", own_ ? "the trial's own file" : "mounted over it"}});
    return {};
  }

  Result<void> hide(Change& change, const LaunchPlan& launch) {
    change.watch =
        ::inotify_add_watch(inotify_.get(), change.file.parent_path().c_str(), kDirectoryEvents);
    if (change.watch < 0) return system_error("watch the directory of an input", errno);
    if (disarmed_) return {};
    const fs::path aside = free_name(launch.scratch);
    if (auto moved = move(change.file, aside); !moved) return moved;
    change.put_aside = aside;
    log_step("changed", {{"file", name_of(change.file)}, {"how", "put aside"}});
    return {};
  }

  Result<void> duplicate(Change& change, LaunchPlan& launch) {
    const std::string stem = change.file.stem().string();
    const std::string extension = change.file.extension().string();
    fs::path copy;
    std::error_code failure;
    for (int i = 1; i < kMaxNames && (copy.empty() || fs::exists(copy, failure)); ++i)
      copy = change.file.parent_path() / (stem + "-copy" + std::to_string(i) + extension);
    if (disarmed_) return {};
    auto made = make(change, change.content, launch);
    if (!made) return made.error();
    change.copy = copy;
    launch.inputs.push_back(copy);
    return move(*made, copy);
  }

  void appear() {
    // What is missed from now on is no matter of ours.
    if (witness_) witness_->stop();
    for (Change& change : changes_) {
      // What the subject puts in its place meanwhile stays.
      if (::access(change.file.c_str(), F_OK) == 0) continue;
      change.later_watch =
          ::inotify_add_watch(inotify_.get(), change.put_aside.c_str(), kFileEvents);
      if (::rename(change.put_aside.c_str(), change.file.c_str()) != 0) continue;
      log_step("appeared", {{"file", name_of(change.file)}});
    }
    for (Change& change : changes_) change.put_aside.clear();
  }

  static fs::path free_name(const fs::path& scratch) {
    std::error_code failure;
    fs::path name;
    for (int i = 0; i < kMaxNames && (name.empty() || fs::exists(name, failure)); ++i)
      name = scratch / ("input-" + std::to_string(i));
    return name;
  }

  // ---- Whether it was met ----

  Result<void> watch(Change& change, const fs::path& file) {
    change.watch = ::inotify_add_watch(inotify_.get(), file.c_str(), kFileEvents);
    if (change.watch < 0) return system_error("watch the changed input", errno);
    return {};
  }

  // Those of ourselves: another injection of the trial may have read the file that we changed.
  void forget_events() {
    std::array<char, 1 << 12> buffer;
    while (::read(inotify_.get(), buffer.data(), buffer.size()) > 0) {
    }
  }

  void read_events() {
    alignas(inotify_event) std::array<char, 1 << 12> buffer;
    while (inotify_.valid()) {
      const ssize_t length = ::read(inotify_.get(), buffer.data(), buffer.size());
      if (length <= 0) return;
      for (ssize_t at = 0; at < length;) {
        inotify_event event{};
        std::memcpy(&event, buffer.data() + at, sizeof event);
        at += static_cast<ssize_t>(sizeof event + event.len);
        if (event.len == 0) note(event);  // With a name it is about another file of a directory.
      }
    }
  }

  void note(const inotify_event& event) {
    for (Change& change : changes_) {
      const bool of_directory = hides() && event.wd == change.watch;
      if (of_directory && !change.put_aside.empty() && change.listed_ns == 0)
        change.listed_ns = now_ns();
      if (of_directory || (event.wd != change.watch && event.wd != change.later_watch)) continue;
      if ((event.mask & IN_OPEN) != 0 && change.opened_ns == 0) change.opened_ns = now_ns();
      if ((event.mask & IN_ACCESS) != 0) change.read = true;
      if ((event.mask & IN_CLOSE_NOWRITE) != 0) change.reader = true;
    }
  }

  // Traces the subject until calls on the names of all hidden files have failed. The times of it
  // are the tracing thread's until that is stopped.
  Result<void> watch_names(pid_t pid) {
    ErrnoWitness::Watch watch{{ENOENT}};
    watch.follow_children = true;
    watch.calls.assign(std::begin(kCallsByPath), std::end(kCallsByPath));
    watch.calls.insert(watch.calls.end(), std::begin(kCallsAtPath), std::end(kCallsAtPath));
    watch.accepts = [this](const ErrnoWitness::Failure& failure,
                           const ErrnoWitness::Arguments& arguments) {
      const bool at = std::find(std::begin(kCallsAtPath), std::end(kCallsAtPath), failure.call) !=
                      std::end(kCallsAtPath);
      const auto missed = path_of(failure.thread, at ? static_cast<int>(arguments[0]) : AT_FDCWD,
                                  arguments[at ? 1 : 0]);
      bool all = true;
      for (Change& change : changes_) {
        if (change.missed_ns == 0 && change.file == missed) change.missed_ns = failure.time_ns;
        all = all && change.missed_ns != 0;
      }
      return all;
    };
    auto witness = ErrnoWitness::attach(pid, std::move(watch));
    if (witness)
      witness_ = std::move(*witness);
    else
      not_traced_ = witness.error().message;
    return {};
  }

  // The file that a thread means by a string in its memory.
  static fs::path path_of(pid_t thread, int directory, std::uint64_t address) {
    std::string text(PATH_MAX, '\0');
    iovec local{text.data(), text.size()};
    // What lies beyond the end of the string may not be mapped: then it is cut there.
    std::size_t size = text.size();
    ssize_t count = -1;
    while (count < 0 && size > 0) {
      iovec remote{reinterpret_cast<void*>(address), size};
      count = ::process_vm_readv(thread, &local, 1, &remote, 1, 0);
      size /= 2;
    }
    if (count <= 0) return {};
    text.resize(std::min(text.find('\0'), static_cast<std::size_t>(count)));
    const std::string process = "/proc/" + std::to_string(thread);
    std::error_code failure;
    const fs::path base = fs::read_symlink(
        directory == AT_FDCWD ? process + "/cwd" : process + "/fd/" + std::to_string(directory),
        failure);
    return fs::weakly_canonical(base / text, failure);
  }

  // When the subject met the change; 0: nobody saw that it did.
  std::int64_t met_ns(const Change& change) const {
    if (hides()) return change.listed_ns != 0 ? change.listed_ns : change.missed_ns;
    return change.read || change.reader ? change.opened_ns : 0;
  }

  json evidence_of(const Change& change) const {
    json evidence{{"item", name_of(change.file)},
                  {"opened_ns", change.opened_ns},
                  {"read", change.read},
                  {"crc32c_before", change.before}};
    if (!change.after.empty()) evidence["crc32c"] = change.after;
    if (!change.copy.empty()) evidence["copy"] = name_of(change.copy);
    if (hides()) evidence["directory_listed_without_it_ns"] = change.listed_ns;
    if (hides()) evidence["call_on_its_name_failed_ns"] = change.missed_ns;
    return evidence;
  }

  std::string names() const {
    std::string text;
    for (const Change& change : changes_) text += (text.empty() ? "" : ", ") + name_of(change.file);
    return text;
  }

  const std::string kind_;
  fs::path directory_;
  bool own_ = false;  // The victims are the trial's own.
  std::vector<Change> changes_;
  UniqueFd inotify_;
  std::unique_ptr<ErrnoWitness> witness_;
  std::string not_traced_;
  std::int64_t appears_ns_ = 0;
};

}  // namespace

std::unique_ptr<Injection> make_input_injection(InjectionSetup setup) {
  return std::make_unique<InputInjection>(std::move(setup));
}

}  // namespace crashworthy
