#include "pipelines/tiles/output_directory.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <system_error>
#include <utility>
#include <vector>

#include "harness/os/file.h"
#include "harness/os/unique_fd.h"

namespace crashworthy::tiles {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kTrial = 4096;  // A disk without room for so much is full.

// Of a symbolic link, its own: a rename replaces the link.
std::uint64_t inode_of(const fs::path& path) {
  struct stat info {};
  return ::lstat(path.c_str(), &info) == 0 ? info.st_ino : 0;
}

Result<void> write_new(const fs::path& path, std::string_view bytes) {
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!fd.valid()) return system_error("create '" + path.string() + "'", errno);
  auto written = write_all(fd.get(), bytes);
  // Network file systems tell of a full disk when the file is closed.
  if (written && ::close(fd.release()) != 0) written = system_error("write", errno);
  if (written) return {};
  ::unlink(path.c_str());
  return written.error().with_context("'" + path.string() + "'");
}

}  // namespace

Result<OutputDirectory> OutputDirectory::open(const fs::path& path) {
  if (auto made = make_directories(path); !made) return made.error();
  OutputDirectory directory(path);
  directory.clean();
  const fs::path trial = path / (std::string(kTemporaryPrefix) + "trial");
  if (auto written = write_new(trial, std::string(kTrial, ' ')); !written) return written.error();
  ::unlink(trial.c_str());
  return directory;
}

fs::path OutputDirectory::part(std::uint64_t item) const {
  return path_ / (std::string(kTemporaryPrefix) + std::to_string(item));
}

fs::path OutputDirectory::map(std::uint64_t item) const {
  return path_ / (std::string(kTemporaryPrefix) + std::to_string(item) + ".map");
}

Result<void> OutputDirectory::write(std::uint64_t item, const std::string& name,
                                    std::string_view bytes, std::uint64_t replaced) const {
  if (auto written = write_new(part(item), bytes); !written) return written.error();
  return publish(item, name, replaced);
}

Result<void> OutputDirectory::publish(std::uint64_t item, const std::string& name,
                                      std::uint64_t replaced) const {
  const fs::path from = part(item);
  if (inode_of(from) == 0 && published(name, replaced)) return {};
  if (::rename(from.c_str(), (path_ / name).c_str()) == 0) return {};
  const int failure = errno;
  ::unlink(from.c_str());
  return system_error("rename '" + from.string() + "' to '" + name + "'", failure);
}

std::uint64_t OutputDirectory::holder(const std::string& name) const {
  return inode_of(path_ / name);
}

bool OutputDirectory::published(const std::string& name, std::uint64_t replaced) const {
  const std::uint64_t now = holder(name);
  return now != 0 && now != replaced;
}

void OutputDirectory::discard(std::uint64_t item) const {
  for (const fs::path& path : {part(item), map(item)}) {
    // Cut off first: a process may have the file mapped still, and would keep the disk's room.
    if (::truncate(path.c_str(), 0) == 0) ::unlink(path.c_str());
  }
}

void OutputDirectory::clean() const {
  std::vector<fs::path> found;
  std::error_code failure;
  for (auto entry = fs::directory_iterator(path_, failure);
       !failure && entry != fs::directory_iterator(); entry.increment(failure)) {
    if (entry->path().filename().string().starts_with(kTemporaryPrefix)) {
      found.push_back(entry->path());
    }
  }
  for (const fs::path& path : found) ::unlink(path.c_str());
}

}  // namespace crashworthy::tiles
