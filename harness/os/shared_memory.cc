#include "harness/os/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <ctime>
#include <utility>

namespace crashworthy {
namespace {

// 0 or an errno. Where the size of files is limited, the kernel would end us by SIGXFSZ.
int resize(int fd, std::size_t size) {
  sigset_t signal, before, pending;
  ::sigemptyset(&signal);
  ::sigaddset(&signal, SIGXFSZ);
  ::sigpending(&pending);
  ::pthread_sigmask(SIG_BLOCK, &signal, &before);
  const int refused = ::ftruncate(fd, static_cast<off_t>(size)) == 0 ? 0 : errno;
  const timespec at_once{};
  if (refused == EFBIG && ::sigismember(&pending, SIGXFSZ) == 0) {
    ::sigtimedwait(&signal, nullptr, &at_once);
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return refused;
}

}  // namespace

SharedMemory::SharedMemory(SharedMemory&& other) noexcept { *this = std::move(other); }

SharedMemory& SharedMemory::operator=(SharedMemory&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

SharedMemory::~SharedMemory() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

Result<SharedMemory> SharedMemory::create(const std::string& name, std::size_t size) {
  UniqueFd fd(::memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid()) return system_error("create shared memory '" + name + "'", errno);
  if (const int refused = resize(fd.get(), size); refused != 0) {
    Error error = system_error("size shared memory '" + name + "'", refused);
    if (refused == EFBIG) error.hint = "is the size of files limited (ulimit -f)?";
    return error;
  }
  // Whoever holds the descriptor may write, but nobody may shrink it: a mapping beyond the end
  // would be our death.
  if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return system_error("seal shared memory '" + name + "'", errno);
  }
  return attach(std::move(fd));
}

Result<SharedMemory> SharedMemory::attach(UniqueFd fd) {
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return system_error("inspect shared memory", errno);
  const auto size = static_cast<std::size_t>(info.st_size);
  void* data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (data == MAP_FAILED) return system_error("map shared memory", errno);
  SharedMemory memory;
  memory.fd_ = std::move(fd);
  memory.data_ = static_cast<std::byte*>(data);
  memory.size_ = size;
  return memory;
}

}  // namespace crashworthy
