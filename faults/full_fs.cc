// resource.disk_full, resource.shm_full: a small tmpfs in the place of a directory, which only the
// subject sees. It fills up by what the subject writes.
//
// The proof is a call of the subject that failed with ENOSPC, seen while the subject was held in
// it: on a descriptor of that file system, or while that file system was full. Where nothing may
// be traced, that it was seen full. A descriptor of its directory, opened before the subject runs,
// shows us what nobody else can see, also after the subject's end.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>

#include "faults/errno_witness.h"
#include "faults/mechanisms.h"
#include "harness/os/clock.h"

namespace crashworthy {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr std::int64_t kLookEveryNs = 5'000'000;

// Those that fail for want of space, and whose first argument is a descriptor.
constexpr int kDescriptorCalls[] = {SYS_write,    SYS_pwrite64,  SYS_writev,   SYS_pwritev,
                                    SYS_pwritev2, SYS_fallocate, SYS_sendfile, SYS_ftruncate};
constexpr int kOtherCalls[] = {
    SYS_openat, SYS_mkdirat, SYS_linkat, SYS_symlinkat, SYS_renameat2, SYS_copy_file_range,
    SYS_splice,
#ifdef SYS_open
    SYS_open,   SYS_creat,   SYS_mkdir,  SYS_link,      SYS_symlink,   SYS_rename,
#endif
};

class FullFileSystem : public Injection {
 public:
  using Injection::Injection;

  std::vector<int> descriptors() const override {
    return witness_ && !witness_->seen() ? std::vector<int>{witness_->descriptor()}
                                         : std::vector<int>{};
  }

 protected:
  Result<void> prepare(LaunchPlan& launch) override {
    const bool shm = fault_.fault == "resource.shm_full";
    fs::path wanted = shm ? fs::path("/dev/shm") : launch.output;
    if (fault_.has("path")) wanted = launch.directory / fault_.text("path");
    if (wanted.empty() && launch.inputs_are_copies) {
      skip("where the command writes is not known: name the directory with set.path");
      return {};
    }
    if (wanted.empty()) {
      return usage_error(fault_.name + ": where the command writes is not known",
                         "name the directory: set.path, on the command line --set path=DIRECTORY");
    }
    std::error_code failure;
    const fs::path target = fs::canonical(wanted, failure);
    if (failure || !fs::is_directory(target, failure)) {
      if (launch.inputs_are_copies) {  // A trial of `run`: the others go on.
        skip("there is no directory '" + wanted.string() + "'");
        return {};
      }
      return usage_error(fault_.name + ": there is no directory '" + wanted.string() + "'",
                         "make it first, or name another with set.path");
    }
    if (!launch.no_mounts.empty()) {
      skip(launch.no_mounts);
      return {};
    }
    target_ = target;
    const bool ours =
        launch.inputs_are_copies && target.native().starts_with(launch.scratch.native() + "/");
    if (ours) copy_to_ = target;
    char mode[8] = {};
    struct stat info {};
    ::stat(target.c_str(), &info);
    std::snprintf(mode, sizeof mode, "%04o", info.st_mode & 07777u);
    // Disarmed, it has room for anything.
    const std::string size = disarmed_ ? "" : "size=" + std::to_string(fault_.number("size")) + ",";
    launch.mounts.push_back({"tmpfs", target, size + "mode=" + mode});
    launch.before_exec.push_back([this](pid_t pid) { return look_inside(pid); });
    return {};
  }

  void work(SubjectView&) override {
    looked_ns_ = now_ns();
    look_at_room();
  }
  std::int64_t next_work_ns() const override {
    const bool traced = witness_ != nullptr;
    return traced || full_ns_ != 0 || !directory_.valid() ? INT64_MAX : looked_ns_ + kLookEveryNs;
  }

  Outcome confirm(const InjectionEvidence& evidence) override {
    look_at_room();
    if (witness_) witness_->stop();
    json facts{{"directory", target_.string()},
               {"bytes", size_},
               {"least_bytes_free", least_free_},
               {"seen_full_ns", full_ns_},
               {"traced", witness_ != nullptr}};
    std::optional<ErrnoWitness::Failure> seen;
    if (witness_) seen = witness_->seen();
    if (seen) {
      facts["failed_call"] = seen->call;
      facts["failed_pid"] = seen->pid;
      facts["failed_ns"] = seen->time_ns;
    }
    log_step("evidence", facts);
    if (seen) return confirmed(seen->time_ns, "a call of the subject failed with ENOSPC");
    for (const ObservedEnd& end : evidence.ends) {
      // A mapped file gets no page.
      if (full_ns_ != 0 && end.time_ns >= had_room_ns_ && end.status.signalled() &&
          end.status.signal() == SIGBUS)
        return confirmed(end.time_ns, "it was full, and the subject ended by SIGBUS");
    }
    if (!witness_ && full_ns_ != 0) {
      return confirmed(full_ns_,
                       "it was seen full; the call that failed was not seen: " + not_traced_);
    }
    const std::string free = std::to_string(least_free_) + " of " + std::to_string(size_) +
                             " bytes were free when least were";
    if (!witness_) return indeterminate(free + "; no call was watched: " + not_traced_);
    return not_activated("no call of the subject failed with ENOSPC; " + free);
  }

  std::string heal() override {
    if (witness_) witness_->stop();
    if (!directory_.valid()) return "nothing to undo";
    std::string done = "the file system ended with the subject's namespace";
    if (!copy_to_.empty()) done += "; " + copy_out();
    directory_.reset();
    return done;
  }

 private:
  Result<void> look_inside(pid_t pid) {
    const std::string path = "/proc/" + std::to_string(pid) + "/root" + target_.string();
    directory_.reset(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    struct stat info {};
    if (!directory_.valid() || ::fstat(directory_.get(), &info) != 0)
      return system_error("look into the subject's '" + target_.string() + "'", errno);
    device_ = info.st_dev;
    // The directories that were made for the subject are there as before.
    if (!copy_to_.empty()) make_directories_inside();
    look_at_room();
    ErrnoWitness::Watch watch{{ENOSPC}};
    watch.calls.assign(std::begin(kDescriptorCalls), std::end(kDescriptorCalls));
    watch.calls.insert(watch.calls.end(), std::begin(kOtherCalls), std::end(kOtherCalls));
    watch.follow_children = true;
    watch.accepts = [this](const ErrnoWitness::Failure& failure,
                           const ErrnoWitness::Arguments& arguments) {
      return is_ours(failure, arguments);
    };
    auto witness = ErrnoWitness::attach(pid, std::move(watch));
    if (witness)
      witness_ = std::move(*witness);
    else
      not_traced_ = witness.error().message;
    return {};
  }

  void make_directories_inside() const {
    std::error_code failure;
    for (const auto& entry : fs::recursive_directory_iterator(copy_to_, failure)) {
      if (entry.is_directory(failure))
        fs::create_directories(inside() / entry.path().lexically_relative(copy_to_), failure);
    }
  }

  fs::path inside() const { return "/proc/self/fd/" + std::to_string(directory_.get()); }

  // Called by the witness while the thread is held in its call.
  bool is_ours(const ErrnoWitness::Failure& failure,
               const ErrnoWitness::Arguments& arguments) const {
    const bool by_descriptor = std::find(std::begin(kDescriptorCalls), std::end(kDescriptorCalls),
                                         failure.call) != std::end(kDescriptorCalls);
    const std::string file = "/proc/" + std::to_string(failure.thread) + "/fd/" +
                             std::to_string(static_cast<int>(arguments[0]));
    struct stat info {};
    if (by_descriptor) return ::stat(file.c_str(), &info) == 0 && info.st_dev == device_;
    struct statvfs room {};
    return ::fstatvfs(directory_.get(), &room) == 0 && (room.f_bfree == 0 || room.f_ffree == 0);
  }

  void look_at_room() {
    struct statvfs room {};
    if (!directory_.valid() || ::fstatvfs(directory_.get(), &room) != 0) return;
    size_ = room.f_blocks * room.f_frsize;
    least_free_ = std::min<std::uint64_t>(least_free_, room.f_bfree * room.f_frsize);
    if (room.f_bfree == 0 && size_ > 0 && full_ns_ == 0) full_ns_ = now_ns();
    if (room.f_bfree > 0 && full_ns_ == 0) had_room_ns_ = now_ns();
  }

  std::string copy_out() const {
    std::error_code failure;
    fs::copy(inside() / ".", copy_to_,
             fs::copy_options::recursive | fs::copy_options::copy_symlinks |
                 fs::copy_options::overwrite_existing,
             failure);
    return failure ? "what it held could not be copied: " + failure.message()
                   : "what it held was copied to the directory";
  }

  fs::path target_;
  fs::path copy_to_;  // Where the outputs are judged; empty: nobody judges.
  UniqueFd directory_;
  dev_t device_ = 0;
  std::unique_ptr<ErrnoWitness> witness_;
  std::string not_traced_;
  std::uint64_t size_ = 0;
  std::uint64_t least_free_ = UINT64_MAX;
  std::int64_t full_ns_ = 0;
  std::int64_t had_room_ns_ = 0;  // Last seen with room before it was full.
  std::int64_t looked_ns_ = 0;
};

}  // namespace

std::unique_ptr<Injection> make_full_fs_injection(InjectionSetup setup) {
  return std::make_unique<FullFileSystem>(std::move(setup));
}

}  // namespace crashworthy
