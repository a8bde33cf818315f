#include "harness/os/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>

namespace crashworthy {
namespace fs = std::filesystem;

Result<std::string> read_file(const fs::path& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return system_error("open '" + path.string() + "'", errno);
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return system_error("inspect '" + path.string() + "'", errno);
  if (S_ISDIR(info.st_mode)) return system_error("read '" + path.string() + "'", EISDIR);
  if (!S_ISREG(info.st_mode)) {
    return Error{ErrorKind::kUsage, 0, "'" + path.string() + "' is no regular file", {}};
  }
  std::string content;
  std::string buffer(1 << 16, '\0');
  while (true) {
    const ssize_t count = ::read(fd.get(), buffer.data(), buffer.size());
    if (count == 0) return content;
    if (count > 0) {
      content.append(buffer, 0, static_cast<std::size_t>(count));
    } else if (errno != EINTR) {
      return system_error("read '" + path.string() + "'", errno);
    }
  }
}

Result<void> write_all(int fd, std::string_view data) {
  while (!data.empty()) {
    const ssize_t count = ::write(fd, data.data(), data.size());
    if (count < 0) {
      if (errno == EINTR) continue;
      return system_error("write", errno);
    }
    data.remove_prefix(static_cast<std::size_t>(count));
  }
  return {};
}

Result<void> write_file_atomically(const fs::path& path, std::string_view content) {
  const fs::path temporary = path.string() + ".tmp";
  const fs::path directory = path.has_parent_path() ? path.parent_path() : fs::path(".");
  const auto fail = [&](const char* what) {
    Error error = system_error(std::string(what) + " '" + path.string() + "'", errno);
    ::unlink(temporary.c_str());
    return error;
  };
  UniqueFd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!fd.valid()) return fail("create");
  if (auto written = write_all(fd.get(), content); !written) {
    ::unlink(temporary.c_str());
    return written.error().with_context("write '" + path.string() + "'");
  }
  if (::fsync(fd.get()) != 0) return fail("sync");
  if (::rename(temporary.c_str(), path.c_str()) != 0) return fail("replace");
  UniqueFd parent(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (parent.valid()) ::fsync(parent.get());
  return {};
}

Result<void> make_directories(const fs::path& path) {
  std::error_code failure;
  fs::create_directories(path, failure);
  if (failure) return system_error("create directory '" + path.string() + "'", failure.value());
  return {};
}

Result<AppendFile> AppendFile::create(const fs::path& path) {
  AppendFile file;
  file.path_ = path.string();
  file.fd_.reset(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600));
  if (!file.fd_.valid()) return system_error("create '" + path.string() + "'", errno);
  return file;
}

Result<void> AppendFile::append(std::string_view data) {
  auto written = write_all(fd_.get(), data);
  if (!written) return written.error().with_context("append to '" + path_ + "'");
  return {};
}

Result<void> AppendFile::sync() {
  if (::fdatasync(fd_.get()) != 0) return system_error("sync '" + path_ + "'", errno);
  return {};
}

fs::path program_directory() {
  std::error_code failure;
  const fs::path self = fs::read_symlink("/proc/self/exe", failure);
  return failure ? fs::path(".") : self.parent_path();
}

Result<fs::path> find_helper(const std::string& name) {
  const fs::path here = program_directory();
  for (const fs::path& place :
       {here / name, here / ".." / "bin" / name, here / ".." / "libexec" / "crashworthy" / name}) {
    if (::access(place.c_str(), X_OK) == 0) return place.lexically_normal();
  }
  return Error{ErrorKind::kMissing, 0,
               "program '" + name + "' is neither beside " + here.string() +
                   " nor in ../libexec/crashworthy",
               "build all targets, or install the package whole"};
}

}  // namespace crashworthy
