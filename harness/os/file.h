// Files: whole reads, atomic replacement, and appends that report a full disk.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "harness/os/result.h"
#include "harness/os/unique_fd.h"

namespace crashworthy {

// The whole file. A directory, a missing or an unreadable file is an error that names it.
Result<std::string> read_file(const std::filesystem::path& path);

// Replaces `path`: writes beside it, syncs, renames, syncs the directory. On failure the old
// content stays and no temporary file is left.
Result<void> write_file_atomically(const std::filesystem::path& path, std::string_view content);

// Creates `path` with its parents.
Result<void> make_directories(const std::filesystem::path& path);

// Writes all of `data`, continuing short writes.
Result<void> write_all(int fd, std::string_view data);

// A new file that only grows; an existing one is refused. Each append reaches the kernel at once,
// so it survives the death of this process.
class AppendFile {
 public:
  static Result<AppendFile> create(const std::filesystem::path& path);
  Result<void> append(std::string_view data);
  // Waits until all is on the disk: for what must be known even after a power cut.
  Result<void> sync();

 private:
  UniqueFd fd_;
  std::string path_;
};

// The directory in which this program's file lies.
std::filesystem::path program_directory();

// The file of the helper program `name`: beside this program (build tree), or in
// ../libexec/crashworthy (installed).
Result<std::filesystem::path> find_helper(const std::string& name);

}  // namespace crashworthy
