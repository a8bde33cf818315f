#include "harness/cli/control_socket.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <optional>
#include <thread>

namespace crashworthy {
namespace {

namespace fs = std::filesystem;

constexpr int kBacklog = 128;

Result<sockaddr_un> address_of(const fs::path& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string& text = path.native();
  if (text.empty() || text.size() >= sizeof address.sun_path || text.find('\0') != text.npos) {
    return usage_error("'" + text + "' cannot be a socket: its path must have 1 to " +
                           std::to_string(sizeof address.sun_path - 1) + " bytes",
                       "name a shorter one, relative to the working directory maybe");
  }
  text.copy(address.sun_path, text.size());
  return address;
}

UniqueFd make_socket() {
  return UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

int connect_to(int fd, const sockaddr_un& address) {
  return ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
}

// Two of us that find the same dead socket must not remove each other's new one, so they take
// turns. The lock is a courtesy: in a directory that is everybody's, anybody may hold it for ever.
UniqueFd take_turn(const fs::path& path) {
  const fs::path parent = path.has_parent_path() ? path.parent_path() : fs::path(".");
  UniqueFd directory(::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  for (int attempt = 0; attempt < 100 && directory.valid(); ++attempt) {
    if (::flock(directory.get(), LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return directory;
}

// Removes the socket of a program that is gone.
Result<void> clear_place(const fs::path& path, const sockaddr_un& address) {
  const std::string shown = "'" + path.string() + "'";
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0) {
    if (errno == ENOENT) return {};
    return usage_error("unable to make the socket " + shown + ": " + std::strerror(errno));
  }
  if (!S_ISSOCK(info.st_mode))
    return usage_error(shown + " is there already, and is no socket", "name another place");
  const UniqueFd probe = make_socket();
  if (connect_to(probe.get(), address) == 0 || errno == EAGAIN) {
    return usage_error("somebody listens at " + shown + " already",
                       "end that one first, or name another place");
  }
  if (errno != ECONNREFUSED) {
    return usage_error("unable to tell whether somebody listens at " + shown + ": " +
                       std::strerror(errno));
  }
  if (::unlink(path.c_str()) == 0 || errno == ENOENT) return {};
  return usage_error("unable to replace the dead socket " + shown + ": " + std::strerror(errno));
}

// The mode of what bind() makes is 0777 without the mask: nobody else may connect, not even for a
// moment. (The mask belongs to the whole process; we are its only thread.)
int bind_private(int fd, const sockaddr_un& address) {
  const mode_t mask = ::umask(0177);
  const int bound = ::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  const int number = errno;
  ::umask(mask);
  errno = number;
  return bound;
}

}  // namespace

Result<ControlSocket> ControlSocket::listen(const fs::path& path) {
  auto address = address_of(path);
  if (!address) return address.error();
  const UniqueFd turn = take_turn(path);
  if (auto cleared = clear_place(path, *address); !cleared) return cleared.error();
  ControlSocket socket;
  socket.fd_ = make_socket();
  struct stat info {};
  if (!socket.fd_.valid() || bind_private(socket.fd_.get(), *address) != 0 ||
      ::lstat(path.c_str(), &info) != 0) {
    return usage_error("unable to make the socket '" + path.string() +
                       "': " + std::strerror(errno));
  }
  socket.path_ = path;  // From here on the destructor removes it.
  socket.device_ = info.st_dev;
  socket.inode_ = info.st_ino;
  if (::listen(socket.fd_.get(), kBacklog) != 0)
    return system_error("listen at '" + path.string() + "'", errno);
  return socket;
}

ControlSocket::~ControlSocket() {
  if (!fd_.valid() || path_.empty()) return;
  struct stat info {};
  const bool ours = ::lstat(path_.c_str(), &info) == 0 && S_ISSOCK(info.st_mode) &&
                    info.st_dev == device_ && info.st_ino == inode_;
  if (ours) ::unlink(path_.c_str());
}

Result<UniqueFd> connect_control(const fs::path& path) {
  auto address = address_of(path);
  if (!address) return address.error();
  UniqueFd fd = make_socket();
  if (!fd.valid()) return system_error("make a socket", errno);
  if (connect_to(fd.get(), *address) == 0) return fd;
  Error error{ErrorKind::kGone, errno,
              "unable to reach a tree at '" + path.string() + "': " + std::strerror(errno),
              "start one: crashworthy supervise TREE.json --socket " + path.string()};
  if (error.sys_errno == ECONNREFUSED) error.hint = "its tree has ended; " + error.hint;
  if (error.sys_errno == EACCES) error.hint = "only the user who started the tree may ask it";
  return error;
}

}  // namespace crashworthy
