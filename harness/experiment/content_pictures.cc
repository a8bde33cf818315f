// WebP, TIFF, BMP and PNM: their ends checked here, their pixels decoded by OpenCV.
#include <array>
#include <set>

#include "harness/experiment/content_ladder.h"

namespace crashworthy::content {

// A RIFF file says its length; inside it are chunks that say theirs. AVI has further RIFF parts.
Rung check_riff_end(std::string_view bytes) {
  constexpr std::size_t kFrame = 8;
  const std::uint64_t length = little_endian(bytes, 4, 4) + kFrame;
  if (length > bytes.size()) return Rung::torn("it is shorter than its RIFF header says");
  const std::string_view after = bytes.substr(static_cast<std::size_t>(length));
  if (!after.empty() && !after.starts_with("RIFF"))
    return Rung::damaged("it is longer than its RIFF header says");
  for (std::uint64_t at = 12; at < length;) {
    if (length - at < kFrame) return Rung::damaged("half a chunk before its end");
    const std::uint64_t size = little_endian(bytes, static_cast<std::size_t>(at) + 4, 4);
    if (size > length - at - kFrame) return Rung::torn("a chunk goes on beyond its end");
    at += kFrame + size + size % 2;  // Chunks are padded to even lengths.
  }
  return {};
}

Rung climb_webp(std::string_view bytes) {
  if (Rung end = check_riff_end(bytes); !end.whole()) return end;
  constexpr std::size_t kFlags = 20;  // Of a VP8X chunk, which is the first if there is one.
  constexpr unsigned char kAnimation = 2;
  const bool animated = bytes.size() > kFlags && bytes.substr(12, 4) == "VP8X" &&
                        (static_cast<unsigned char>(bytes[kFlags]) & kAnimation) != 0;
  if (animated) return Rung::undecoded("compared by its bytes: it is animated");
  return decode_picture(bytes);
}

namespace {

// The directories of a TIFF and what they point at must lie inside of the file.
class TiffWalk {
 public:
  explicit TiffWalk(std::string_view bytes)
      : bytes_(bytes),
        little_(bytes[0] == 'I'),
        big_(number(2, 2) == 43),
        offset_size_(big_ ? 8 : 4),
        count_size_(big_ ? 8 : 2),
        entry_size_(big_ ? 20 : 12) {}

  Rung run() {
    const std::size_t head = big_ ? 16 : 8;
    if (bytes_.size() < head) return Rung::torn("it ends inside its header");
    std::uint64_t next = number(big_ ? 8 : 4, offset_size_);
    if (next == 0) return Rung::torn("it has no directory yet");
    std::set<std::uint64_t> seen;
    while (next != 0) {
      if (!seen.insert(next).second) return Rung::damaged("its directories form a ring");
      if (Rung rung = walk(next); !rung.whole()) return rung;
    }
    return {};
  }

 private:
  std::uint64_t number(std::size_t at, std::size_t size) const {
    return little_ ? little_endian(bytes_, at, size) : big_endian(bytes_, at, size);
  }
  bool inside(std::uint64_t at, std::uint64_t size) const {
    return at <= bytes_.size() && size <= bytes_.size() - at;
  }

  // One directory at `next`, which becomes the place of the one after it.
  Rung walk(std::uint64_t& next) {
    if (!inside(next, count_size_)) return Rung::torn("its directory lies beyond its end");
    const std::uint64_t count = number(static_cast<std::size_t>(next), count_size_);
    const std::uint64_t first = next + count_size_;
    if (count > bytes_.size() || !inside(first, count * entry_size_ + offset_size_))
      return Rung::torn("it ends inside a directory");
    std::vector<std::uint64_t> offsets, sizes;
    for (std::uint64_t i = 0; i < count; ++i) {
      if (!read_entry(static_cast<std::size_t>(first + i * entry_size_), offsets, sizes))
        return Rung::torn("a field of a directory lies beyond its end");
    }
    for (std::size_t i = 0; i < offsets.size() && i < sizes.size(); ++i) {
      if (!inside(offsets[i], sizes[i])) return Rung::torn("pixels lie beyond its end");
    }
    next = number(static_cast<std::size_t>(first + count * entry_size_), offset_size_);
    return {};
  }

  // Collects where strips or tiles lie. False when the field's values lie beyond the end.
  bool read_entry(std::size_t at, std::vector<std::uint64_t>& offsets,
                  std::vector<std::uint64_t>& sizes) const {
    constexpr std::array<std::size_t, 19> kTypeSizes{0, 1, 1, 2, 4, 8, 1, 1, 2, 4,
                                                     8, 4, 8, 4, 0, 0, 8, 8, 8};
    const std::uint64_t tag = number(at, 2);
    const std::uint64_t type = number(at + 2, 2);
    const std::uint64_t count = number(at + 4, offset_size_);
    const std::size_t size = type < kTypeSizes.size() ? kTypeSizes[type] : 0;
    if (size == 0) return true;
    if (count > bytes_.size()) return false;
    const std::uint64_t total = count * size;
    const std::size_t field = at + 4 + offset_size_;
    const std::uint64_t place = total <= offset_size_ ? field : number(field, offset_size_);
    if (!inside(place, total)) return false;
    std::vector<std::uint64_t>* target = tag == 273 || tag == 324   ? &offsets
                                         : tag == 279 || tag == 325 ? &sizes
                                                                    : nullptr;
    for (std::uint64_t i = 0; target != nullptr && i < count; ++i)
      target->push_back(number(static_cast<std::size_t>(place + i * size), size));
    return true;
  }

  std::string_view bytes_;
  bool little_;
  bool big_;  // BigTIFF: offsets of 64 bits.
  std::size_t offset_size_, count_size_, entry_size_;
};

}  // namespace

Rung climb_tiff(std::string_view bytes, const std::filesystem::path& path) {
  if (Rung end = TiffWalk(bytes).run(); !end.whole()) return end;
  return decode_pages(path);
}

Rung climb_bmp(std::string_view bytes) {
  const std::uint64_t length = little_endian(bytes, 2, 4);
  if (length > bytes.size()) return Rung::torn("it is shorter than its header says");
  return decode_picture(bytes);
}

namespace {

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

// The next number of a PNM header, over spaces and comments; false when there is none.
bool next_number(std::string_view bytes, std::size_t& at, std::uint64_t& value) {
  while (at < bytes.size() && (is_space(bytes[at]) || bytes[at] == '#')) {
    if (bytes[at] == '#') at = std::min(bytes.find('\n', at), bytes.size() - 1);
    ++at;
  }
  const std::size_t first = at;
  constexpr std::size_t kMostDigits = 9;
  for (value = 0; at < bytes.size() && bytes[at] >= '0' && bytes[at] <= '9'; ++at) {
    if (at - first == kMostDigits) return false;
    value = value * 10 + static_cast<std::uint64_t>(bytes[at] - '0');
  }
  return at > first && at < bytes.size();
}

}  // namespace

// Its header says how many bytes follow; those written in digits are left to the decoder.
Rung climb_pnm(std::string_view bytes) {
  const char kind = bytes[1];
  if (kind < '4') return decode_picture(bytes);
  std::size_t at = 2;
  std::uint64_t width = 0, height = 0, most = 1;
  const bool read = next_number(bytes, at, width) && next_number(bytes, at, height) &&
                    (kind == '4' || next_number(bytes, at, most));
  if (!read)
    return at >= bytes.size() ? Rung::torn("it ends inside its header")
                              : Rung::damaged("its header makes no sense");
  ++at;  // One space, then pixels.
  const std::uint64_t sample = most > 255 ? 2 : 1;
  const std::uint64_t row = kind == '4'   ? (width + 7) / 8
                            : kind == '5' ? width * sample
                                          : width * sample * 3;
  const std::uint64_t left = at > bytes.size() ? 0 : bytes.size() - at;
  if (height != 0 && row > left / height) return Rung::torn("it is shorter than its header says");
  if (row * height < left) return Rung::damaged("it is longer than its header says");
  return decode_picture(bytes);
}

}  // namespace crashworthy::content
