#include "harness/experiment/output_writers.h"

#include <fcntl.h>
#include <sys/fanotify.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>

namespace crashworthy {
namespace {

// Who opens is not asked: an event for each file that is read would be the subject's to pay.
constexpr std::uint64_t kEvents =
    FAN_CREATE | FAN_CLOSE_WRITE | FAN_MOVED_TO | FAN_MOVED_FROM | FAN_DELETE | FAN_EVENT_ON_CHILD;
constexpr int kHandleForIdentity = 0x200;  // AT_HANDLE_FID of Linux 6.5.

// Type and bytes of a file handle: who a directory is.
std::string handle_key(const file_handle& handle) {
  std::string key(reinterpret_cast<const char*>(&handle.handle_type), sizeof handle.handle_type);
  key.append(reinterpret_cast<const char*>(handle.f_handle), handle.handle_bytes);
  return key;
}

Result<std::string> key_of(const std::filesystem::path& directory) {
  alignas(file_handle) std::array<char, sizeof(file_handle) + MAX_HANDLE_SZ> space{};
  auto* handle = reinterpret_cast<file_handle*>(space.data());
  int mount = 0;
  // Some file systems have handles that only identify.
  for (const int flags : {0, kHandleForIdentity}) {
    handle->handle_bytes = MAX_HANDLE_SZ;
    if (::name_to_handle_at(AT_FDCWD, directory.c_str(), handle, &mount, flags) == 0)
      return handle_key(*handle);
  }
  return system_error("get the file handle of '" + directory.string() + "'", errno);
}

}  // namespace

Result<OutputWriters> OutputWriters::create() {
  OutputWriters writers;
  // The flag about marks is allowed to those alone who are also told pids.
  writers.fd_.reset(::fanotify_init(
      FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_NONBLOCK | FAN_REPORT_DFID_NAME | FAN_UNLIMITED_MARKS,
      O_RDONLY | O_CLOEXEC));
  if (writers.fd_.valid()) return writers;
  if (errno == EPERM) {
    return Error{ErrorKind::kMissing, EPERM,
                 "fanotify tells who writes only with CAP_SYS_ADMIN of the whole machine", ""};
  }
  Error error = system_error("fanotify", errno);
  error.kind = ErrorKind::kMissing;
  return error;
}

Result<void> OutputWriters::watch(const std::filesystem::path& directory,
                                  const std::string& prefix) {
  auto key = key_of(directory);
  if (!key) return key.error();
  if (::fanotify_mark(fd_.get(), FAN_MARK_ADD | FAN_MARK_ONLYDIR | FAN_MARK_DONT_FOLLOW, kEvents,
                      AT_FDCWD, directory.c_str()) != 0) {
    return system_error("mark '" + directory.string() + "' for fanotify", errno);
  }
  prefixes_[*key] = prefix;
  return {};
}

void OutputWriters::read(std::vector<Record>& out) {
  alignas(fanotify_event_metadata) std::array<char, 1 << 16> buffer;
  while (true) {
    const ssize_t length = ::read(fd_.get(), buffer.data(), buffer.size());
    if (length <= 0) return;
    for (std::size_t at = 0; at + FAN_EVENT_METADATA_LEN <= static_cast<std::size_t>(length);) {
      fanotify_event_metadata event{};
      std::memcpy(&event, buffer.data() + at, sizeof event);
      if (event.event_len < FAN_EVENT_METADATA_LEN) return;
      read_event(buffer.data() + at, event.event_len, out);
      at += event.event_len;
    }
  }
}

void OutputWriters::read_event(const char* event, std::size_t length, std::vector<Record>& out) {
  fanotify_event_metadata metadata{};
  std::memcpy(&metadata, event, sizeof metadata);
  if ((metadata.mask & FAN_Q_OVERFLOW) != 0) overflowed_ = true;
  if (metadata.fd >= 0) ::close(metadata.fd);
  fanotify_event_info_fid info{};
  const std::size_t at = metadata.metadata_len;
  if (at + sizeof info + sizeof(file_handle) > length) return;
  std::memcpy(&info, event + at, sizeof info);
  if (info.hdr.info_type != FAN_EVENT_INFO_TYPE_DFID_NAME || at + info.hdr.len > length) return;
  const char* place = event + at + offsetof(fanotify_event_info_fid, handle);
  const auto* handle = reinterpret_cast<const file_handle*>(place);
  const char* name = place + offsetof(file_handle, f_handle) + handle->handle_bytes;
  const char* end = event + at + info.hdr.len;
  if (name >= end) return;
  const auto prefix = prefixes_.find(handle_key(*handle));
  if (prefix == prefixes_.end()) return;
  const std::string text(name, ::strnlen(name, static_cast<std::size_t>(end - name)));
  out.push_back({prefix->second + text, metadata.mask, metadata.pid});
}

}  // namespace crashworthy
