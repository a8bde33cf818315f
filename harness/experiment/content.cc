#include "harness/experiment/content.h"

#define XXH_INLINE_ALL
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <memory>
#include <vector>

#include "harness/os/unique_fd.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;

std::string hexadecimal(XXH128_hash_t hash) {
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

}  // namespace

const char* content_state_name(ContentState state) {
  switch (state) {
    case ContentState::kWhole:
      return "whole";
    case ContentState::kEmpty:
      return "empty";
    case ContentState::kTorn:
      return "torn";
    case ContentState::kDamaged:
      return "damaged";
  }
  return "unknown";
}

std::string hash_bytes(std::string_view bytes) {
  return hexadecimal(XXH3_128bits(bytes.data(), bytes.size()));
}

// A sparse file says that it has any number of bytes: nobody would live to see its end.
constexpr std::int64_t kMostHashed = std::int64_t{16} << 30;

Result<std::string> hash_file(const fs::path& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd.valid()) return system_error("open '" + path.string() + "'", errno);
  struct stat info {};
  if (::fstat(fd.get(), &info) == 0 && info.st_size > kMostHashed)
    return system_error("read '" + path.string() + "', which is larger than 16 GiB", EFBIG);
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(),
                                                                       XXH3_freeState);
  XXH3_128bits_reset(state.get());
  std::vector<char> buffer(1 << 18);
  while (true) {
    const ssize_t count = ::read(fd.get(), buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return system_error("read '" + path.string() + "'", errno);
    if (count == 0) break;
    XXH3_128bits_update(state.get(), buffer.data(), static_cast<std::size_t>(count));
  }
  return hexadecimal(XXH3_128bits_digest(state.get()));
}

bool is_beginning_of(const fs::path& part, const fs::path& whole) {
  std::error_code failure;
  const auto part_size = fs::file_size(part, failure);
  if (failure || part_size == 0) return false;
  const auto whole_size = fs::file_size(whole, failure);
  if (failure || part_size >= whole_size) return false;
  std::ifstream a(part, std::ios::binary);
  std::ifstream b(whole, std::ios::binary);
  std::vector<char> here(1 << 16), there(1 << 16);
  for (auto left = static_cast<std::streamsize>(part_size); left > 0;) {
    const auto length = std::min(left, static_cast<std::streamsize>(here.size()));
    if (!a.read(here.data(), length) || !b.read(there.data(), length)) return false;
    if (!std::equal(here.begin(), here.begin() + length, there.begin())) return false;
    left -= length;
  }
  return true;
}

}  // namespace crashworthy
