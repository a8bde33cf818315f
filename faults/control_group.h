// A control group of ours with one controller, below that of a process of the subject; version 1 or
// 2, whichever has the controller.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "faults/guardian.h"
#include "harness/os/result.h"

namespace crashworthy {

// Removed by the destructor, and when this process ends in any way, by a guardian: those still in
// it go back to where they came from, or are waited for. One thread uses a ControlGroup.
class ControlGroup {
 public:
  // Where it would be made for `pid`; kMissing with the reason where there is no such controller or
  // we may not.
  static Result<std::filesystem::path> place_for(pid_t pid, const std::string& controller);
  // Makes it at `path`, which place_for() gave.
  static Result<ControlGroup> create(const std::filesystem::path& path);
  ControlGroup(ControlGroup&&) noexcept = default;
  ControlGroup& operator=(ControlGroup&&) = delete;
  ~ControlGroup();

  // Version 1 calls some files by other names.
  bool unified() const;
  // By number, as there is no other way: who calls it looks afterwards whether the process has
  // ended meanwhile. A stranger with its number goes back with remove().
  Result<void> add(pid_t pid);
  Result<void> write(const std::string& file, const std::string& value);
  // The number after `key` in `file`, or the only one; empty when there is none.
  std::optional<std::int64_t> number(const std::string& file, const std::string& key = "") const;
  // The sum of number() over it and all groups below it, which its processes may have made.
  std::int64_t total(const std::string& file, const std::string& key = "") const;
  // True when it is gone.
  bool remove();

 private:
  explicit ControlGroup(std::filesystem::path path) : path_(std::move(path)) {}
  static std::optional<std::int64_t> number_in(const std::filesystem::path& file,
                                               const std::string& key);

  std::filesystem::path path_;
  Guardian guardian_;
};

}  // namespace crashworthy
