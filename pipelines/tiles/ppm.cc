#include "pipelines/tiles/ppm.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "harness/os/file.h"
#include "harness/os/unique_fd.h"

namespace crashworthy::tiles {
namespace {

constexpr std::size_t kMaxHeader = 1 << 16;  // Comments included.

// Reads the words of a header one after another.
class HeaderReader {
 public:
  explicit HeaderReader(std::string_view bytes) : bytes_(bytes), at_(2) {}

  // A number from 1 to `most`.
  Result<int> number(const char* what, int most) {
    skip_blanks();
    if (at_ == bytes_.size())
      return corrupt_error(std::string("the header ends before the ") + what);
    std::int64_t value = 0;
    const std::size_t start = at_;
    for (; at_ < bytes_.size() && bytes_[at_] >= '0' && bytes_[at_] <= '9'; ++at_) {
      value = std::min<std::int64_t>(value * 10 + (bytes_[at_] - '0'),
                                     std::int64_t{1} << 40);  // Stays there: no overflow.
    }
    if (at_ == start) return corrupt_error(std::string("the ") + what + " is not a number");
    if (value < 1 || value > most) {
      return corrupt_error(std::string("the ") + what + " is not from 1 to " +
                           std::to_string(most));
    }
    return static_cast<int>(value);
  }

  // The single blank between the header and the pixels.
  Result<std::size_t> end() {
    if (at_ == bytes_.size() || !is_blank(bytes_[at_]))
      return corrupt_error("no blank before the pixels");
    return at_ + 1;
  }

 private:
  static bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

  void skip_blanks() {
    while (at_ < bytes_.size()) {
      if (bytes_[at_] == '#') {
        at_ = std::min(bytes_.find_first_of("\n\r", at_), bytes_.size());
      } else if (is_blank(bytes_[at_])) {
        ++at_;
      } else {
        return;
      }
    }
  }

  std::string_view bytes_;
  std::size_t at_;
};

std::string quoted(const std::filesystem::path& path) { return "'" + path.string() + "'"; }

Result<std::string> read_start(int fd, const std::string& name) {
  std::string bytes(kMaxHeader, '\0');
  std::size_t length = 0;
  while (length < bytes.size()) {
    const ssize_t count =
        ::pread(fd, bytes.data() + length, bytes.size() - length, static_cast<off_t>(length));
    if (count == 0) break;
    if (count > 0) {
      length += static_cast<std::size_t>(count);
    } else if (errno != EINTR) {
      return system_error("read " + name, errno);
    }
  }
  bytes.resize(length);
  return bytes;
}

// Reserves `size` bytes of room. The look at the free room first spares a hopeless request the
// filling of the disk.
Result<void> reserve(int fd, std::uint64_t size, const std::string& name) {
  const std::string doing = "reserve " + std::to_string(size) + " bytes for " + name;
  struct statvfs room {};
  if (::fstatvfs(fd, &room) == 0 && room.f_blocks > 0 &&
      size / std::max<std::uint64_t>(room.f_frsize, 1) > room.f_bavail) {
    return system_error(doing, ENOSPC);
  }
  int failure = 0;
  do {
    failure = ::posix_fallocate(fd, 0, static_cast<off_t>(size));
  } while (failure == EINTR);
  if (failure != 0) return system_error(doing, failure);
  return {};
}

}  // namespace

Result<PpmHeader> parse_ppm_header(std::string_view bytes) {
  if (bytes.size() < 2 || bytes[0] != 'P' || (bytes[1] != '5' && bytes[1] != '6')) {
    return corrupt_error("not a binary PPM or PGM image (no P6 or P5 at the start)");
  }
  PpmHeader header;
  header.channels = bytes[1] == '6' ? 3 : 1;
  HeaderReader reader(bytes.substr(0, kMaxHeader));
  auto width = reader.number("width", kMaxPpmSide);
  if (!width) return width.error();
  auto height = reader.number("height", kMaxPpmSide);
  if (!height) return height.error();
  auto maximum = reader.number("maximum value", 65535);
  if (!maximum) return maximum.error();
  if (*maximum != 255) {
    return corrupt_error("the maximum value is " + std::to_string(*maximum) +
                         "; only 255 (8 bits) is supported");
  }
  auto end = reader.end();
  if (!end) return end.error();
  header.width = *width;
  header.height = *height;
  header.pixels_at = *end;
  return header;
}

MappedImage::MappedImage(MappedImage&& other) noexcept { *this = std::move(other); }

MappedImage& MappedImage::operator=(MappedImage&& other) noexcept {
  std::swap(header_, other.header_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(name_, other.name_);
  return *this;
}

MappedImage::~MappedImage() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

Result<MappedImage> MappedImage::open(const std::filesystem::path& path, Access access) {
  const std::string name = quoted(path);
  UniqueFd fd(
      ::open(path.c_str(), (access == Access::kRead ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return system_error("open " + name, errno);
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return system_error("inspect " + name, errno);
  if (!S_ISREG(info.st_mode)) return corrupt_error("open " + name + ": not a regular file");
  auto start = read_start(fd.get(), name);
  if (!start) return start.error();
  auto header = parse_ppm_header(*start);
  if (!header) return header.error().with_context("read " + name);
  const auto size = static_cast<std::uint64_t>(info.st_size);
  const std::uint64_t present = size - std::min<std::uint64_t>(size, header->pixels_at);
  if (present < header->pixel_bytes()) {
    return corrupt_error("read " + name + ": truncated: " + std::to_string(present) + " of " +
                         std::to_string(header->pixel_bytes()) + " bytes of pixels are there");
  }
  return map(fd.get(), name, *header, access);
}

Result<MappedImage> MappedImage::create(const std::filesystem::path& path, int width, int height,
                                        int channels) {
  CRASHWORTHY_CHECK(channels == 1 || channels == 3, channels);
  const std::string name = quoted(path);
  if (width < 1 || height < 1 || width > kMaxPpmSide || height > kMaxPpmSide) {
    return usage_error("create " + name + ": " + std::to_string(width) + " x " +
                       std::to_string(height) + " pixels are not from 1 to " +
                       std::to_string(kMaxPpmSide) + " a side");
  }
  const std::string text = std::string(channels == 3 ? "P6" : "P5") + "\n" + std::to_string(width) +
                           " " + std::to_string(height) + "\n255\n";
  const PpmHeader header{width, height, channels, text.size()};
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!fd.valid()) return system_error("create " + name, errno);
  const auto fail = [&](const Error& error) -> Result<MappedImage> {
    ::unlink(path.c_str());
    return error;
  };
  if (auto room = reserve(fd.get(), header.pixels_at + header.pixel_bytes(), name); !room)
    return fail(room.error());
  if (auto written = write_all(fd.get(), text); !written)
    return fail(written.error().with_context("write " + name));
  auto image = map(fd.get(), name, header, Access::kReadWrite);
  if (!image) return fail(image.error());
  return image;
}

Result<MappedImage> MappedImage::map(int fd, const std::string& name, const PpmHeader& header,
                                     Access access) {
  MappedImage image;
  const std::uint64_t size = header.pixels_at + header.pixel_bytes();
  const int protection = access == Access::kRead ? PROT_READ : PROT_READ | PROT_WRITE;
  void* data = ::mmap(nullptr, size, protection, MAP_SHARED, fd, 0);
  if (data == MAP_FAILED) return system_error("map " + name, errno);
  image.header_ = header;
  image.data_ = static_cast<std::byte*>(data);
  image.size_ = size;
  image.name_ = name;
  return image;
}

cv::Mat MappedImage::pixels() const {
  CRASHWORTHY_CHECK(data_ != nullptr);
  return cv::Mat(header_.height, header_.width, CV_8UC(header_.channels),
                 data_ + header_.pixels_at);
}

Result<void> MappedImage::sync() const {
  if (::msync(data_, size_, MS_SYNC) != 0) return system_error("sync " + name_, errno);
  return {};
}

void MappedImage::release_rows(int first, int last) const {
  CRASHWORTHY_CHECK(0 <= first && first <= last && last <= header_.height, first, last);
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t row = static_cast<std::size_t>(header_.width) * header_.channels;
  const std::size_t begin = (header_.pixels_at + row * first) / page * page;
  const std::size_t end = (header_.pixels_at + row * last) / page * page;
  if (begin < end)
    ::madvise(data_ + begin, end - begin,
              MADV_DONTNEED);  // Advice only: the file keeps shared pages.
}

}  // namespace crashworthy::tiles
