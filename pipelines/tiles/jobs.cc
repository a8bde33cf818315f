#include "pipelines/tiles/jobs.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <span>
#include <utility>

#include "faults/point/point.h"
#include "harness/os/check.h"
#include "harness/os/clock.h"
#include "pipelines/tiles/image_file.h"
#include "pipelines/tiles/items.h"
#include "pipelines/tiles/runtime.h"

namespace crashworthy::tiles {
namespace {

namespace fs = std::filesystem;

JobOutput failed(FailureReason reason, std::string message) {
  return {{}, reason, std::move(message)};
}

JobOutput failed(FailureReason reason, const Error& error) {
  return failed(reason, error.hint.empty() ? error.message : error.message + "; " + error.hint);
}

// Whether a regular file begins like a binary PPM or PGM. What cannot be opened is none: decoding
// it will say why.
bool is_pnm(const fs::path& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) return false;
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rbe"),
                                                             std::fclose);
  std::array<char, 2> magic{};
  return file && std::fread(magic.data(), 1, magic.size(), file.get()) == magic.size() &&
         magic[0] == 'P' && (magic[1] == '5' || magic[1] == '6');
}

// The files of the image whose tiles this thread does, mapped: its next tile is most likely of the
// same image, and mapping gigabytes anew for each is not free.
struct OpenImage {
  std::uint64_t item = kNoItem;
  MappedImage input;
  MappedImage output;
};
thread_local OpenImage open_image;

// Copies the pixels of a mapped image to another, letting go of the memory behind itself.
void copy_mapped(const MappedImage& from, const MappedImage& to) {
  constexpr int kRows = 256;
  const cv::Mat source = from.pixels();
  cv::Mat target = to.pixels();
  for (int y = 0; y < source.rows; y += kRows) {
    const int end = std::min(y + kRows, source.rows);
    cv::Mat rows = target.rowRange(y, end);
    source.rowRange(y, end).copyTo(rows);
    from.release_rows(y, end);
  }
}

// The pixels of a frame that somebody else filled. They are read-only, which a cv::Mat cannot say.
cv::Mat pixels_of(const JobContext& context, const FrameRef& ref, cv::Size size, int channels) {
  const std::span<const std::byte> bytes = context.frame(ref);
  CRASHWORTHY_CHECK(bytes.size() == std::uint64_t(size.area()) * std::uint64_t(channels),
                    ref.region, ref.offset, ref.bytes, size, channels);
  return cv::Mat(size, CV_8UC(channels), const_cast<std::byte*>(bytes.data()));
}

// A finished tile, where a fault may damage it; of one within a mapped image, its first row.
void offer_pixels([[maybe_unused]] cv::Mat& pixels) {
  CRASHWORTHY_FAULT_BUFFER(
      "tile.pixels", pixels.data,
      pixels.elemSize() * (pixels.isContinuous() ? pixels.total() : std::size_t(pixels.cols)));
}

// A planted slowdown: burns the share of the time that was spent since `start_ns`.
void spin(std::int64_t start_ns, double percent) {
  if (percent <= 0) return;
  const std::int64_t now = now_ns();
  const auto until =
      now + static_cast<std::int64_t>(static_cast<double>(now - start_ns) * percent / 100);
  while (now_ns() < until) {
  }
}

}  // namespace

JobOutput Jobs::run(const Job& job, const JobContext& context) const noexcept {
  if (job.item == kNoItem) {
    warm_up(settings_, context.output);
    return {};
  }
  const CurrentJob current(job, context);
  const std::int64_t start = now_ns();
  const std::vector<ImagePlace> places = unpack_places(job.arguments);
  CRASHWORTHY_CHECK(!places.empty(), job.item, job.part, job.arguments.size());
  // What another image's tiles are written to is out of this job's reach; and gigabytes are not to
  // stay mapped behind the last tile.
  if (open_image.item != job.item || job.part == kPartMerge) open_image = OpenImage{};
  JobOutput output;
  if (job.part == kPartRead || job.part == kPartReadAgain) {
    output = read(places.front(), context);
  } else if (job.part == kPartMerge) {
    std::vector<WriteOutcome> outcomes;
    for (const ImagePlace& place : places) outcomes.push_back(write(place, context));
    output.bytes = pack(outcomes);
  } else {
    output = filter(places.front(), job.part, context);
  }
  spin(start, settings_.slow_percent);
  return output;
}

// ---- Reading ----

JobOutput Jobs::read(ImagePlace place, const JobContext& context) const {
  CRASHWORTHY_FAULT_POINT_ITEM("tile.read", place.item);
  JobOutput output;
  if (is_pnm(item(place).input)) {
    if (auto good = read_mapped(place); !good)
      return failed(FailureReason::kUnreadable, good.error());
  } else {
    output = decode(place, context);
    if (output.failure || output.frame_bytes == 0) return output;
  }
  if (JobOutput room = make_room(place); room.failure) return room;
  output.bytes = pack({place});
  return output;
}

Result<void> Jobs::read_mapped(ImagePlace& place) const {
  auto image = MappedImage::open(item(place).input);
  if (!image) return image.error();
  place.width = image->width();
  place.height = image->height();
  place.channels = image->channels();
  place.mapped = 1;
  return {};
}

// Through a buffer of OpenCV's own: the decoders turn some images around, and then need a second
// one anyway.
JobOutput Jobs::decode(ImagePlace& place, const JobContext& context) const {
  auto file = ImageFile::open(item(place).input);
  if (!file) return failed(FailureReason::kUnreadable, file.error());
  place.width = file->info().width;
  place.height = file->info().height;
  place.channels = 3;
  if (place.input_bytes() > settings_.frame_bytes) {
    return failed(FailureReason::kTooLarge,
                  std::to_string(place.width) + " x " + std::to_string(place.height) +
                      " pixels do not fit a frame of " + std::to_string(settings_.frame_bytes) +
                      " bytes; raise --frame-bytes, or convert the image to PPM, which is mapped");
  }
  JobOutput output;
  if (place.input_bytes() > context.output.size()) {
    output.bytes = pack({place});  // So large must it be.
    return output;
  }
  auto image = file->decode();
  if (!image) return failed(FailureReason::kUnreadable, image.error());
  CRASHWORTHY_CHECK(image->cols == place.width && image->rows == place.height, image->cols,
                    image->rows, place.width, place.height);
  cv::Mat frame(image->size(), CV_8UC(place.channels), context.output.data());
  image->copyTo(frame);
  output.frame_bytes = place.input_bytes();
  return output;
}

// Sees to it that the tiles and the result have a place.
JobOutput Jobs::make_room(const ImagePlace& place) const {
  auto count = tile_count(place.width, place.height, settings_.tile);
  if (!count) return failed(FailureReason::kTooLarge, count.error());
  const int channels = settings_.chain.output_channels(place.channels);
  if (maps_output(place)) {
    auto file = MappedImage::create(tiles_file(place), place.width, place.height, channels);
    if (!file) return failed(FailureReason::kWrite, file.error());
    return {};
  }
  const std::uint64_t bytes = place.input_bytes() / place.channels * channels;
  if (bytes > settings_.frame_bytes || bytes > std::numeric_limits<int>::max()) {
    return failed(FailureReason::kTooLarge,
                  "its result of " + std::to_string(bytes) + " bytes does not fit a frame of " +
                      std::to_string(settings_.frame_bytes) +
                      " bytes, from which a compressed file is made; take --format ppm");
  }
  return {};
}

// ---- Filtering ----

JobOutput Jobs::open_files(const ImagePlace& place) const {
  OpenImage& open = open_image;
  if (open.item == place.item) return {};
  if (place.mapped != 0) {
    auto input = MappedImage::open(item(place).input);
    if (!input) return failed(FailureReason::kUnreadable, input.error());
    open.input = *std::move(input);
  }
  if (maps_output(place)) {
    auto output = MappedImage::open(tiles_file(place), MappedImage::Access::kReadWrite);
    if (!output) return failed(FailureReason::kWrite, output.error());
    open.output = *std::move(output);
  }
  open.item = place.item;
  return {};
}

JobOutput Jobs::filter(const ImagePlace& place, std::uint32_t part,
                       const JobContext& context) const {
  if (JobOutput opened = open_files(place); opened.failure) return opened;
  const cv::Size size(place.width, place.height);
  const cv::Mat input = place.mapped != 0 ? open_image.input.pixels()
                                          : pixels_of(context, place.pixels, size, place.channels);
  if (input.size() != size || input.channels() != place.channels) {
    return failed(FailureReason::kUnreadable, "the file was changed while it was read");
  }
  TileOptions options;
  options.before_filters = [&] { CRASHWORTHY_FAULT_POINT_ITEM("tile.filter", place.item); };
  options.input_order = place.mapped != 0 ? ChannelOrder::kRgb : ChannelOrder::kBgr;
  options.output_order = maps_output(place) ? ChannelOrder::kRgb : ChannelOrder::kBgr;
  const cv::Rect tile = tile_rect(place.width, place.height, settings_.tile, part);
  JobOutput output;
  Result<void> done;
  if (maps_output(place)) {
    cv::Mat whole = open_image.output.pixels();
    done = run_tile(settings_.chain, input, tile, whole, options);
    cv::Mat result = whole(tile);
    if (done) offer_pixels(result);
  } else {
    const int channels = settings_.chain.output_channels(place.channels);
    output.frame_bytes = std::size_t(tile.area()) * std::size_t(channels);
    CRASHWORTHY_CHECK(context.output.size() == output.frame_bytes, context.output.size(), tile);
    cv::Mat result(tile.size(), CV_8UC(channels), context.output.data());
    done = filter_tile(settings_.chain, input, tile, result, options);
    if (done) offer_pixels(result);
  }
  if (!done) return failed(FailureReason::kUnreadable, done.error());
  return output;
}

// ---- Writing ----

fs::path Jobs::tiles_file(const ImagePlace& place) const {
  return settings_.chain.needs_finish() ? output_.map(place.item) : output_.part(place.item);
}

WriteOutcome Jobs::write(const ImagePlace& place, const JobContext& context) const {
  CRASHWORTHY_FAULT_POINT_ITEM("tile.write", place.item);
  auto written = maps_output(place) ? write_mapped(place) : write_encoded(place, context);
  if (written) return {};
  return {FailureReason::kWrite, written.error().message};
}

// The whole result, of the frames of its tiles.
cv::Mat Jobs::merge(const ImagePlace& place, const JobContext& context) const {
  const int channels = settings_.chain.output_channels(place.channels);
  cv::Mat image(place.height, place.width, CV_8UC(channels));
  const std::span<const std::byte> table = context.frame(place.tiles);
  const std::size_t count = table.size() / sizeof(FrameRef);
  CRASHWORTHY_CHECK(count == tile_count(place.width, place.height, settings_.tile).value(), count);
  for (std::size_t i = 0; i < count; ++i) {
    FrameRef ref;
    std::memcpy(&ref, table.data() + i * sizeof ref, sizeof ref);
    const cv::Rect tile = tile_rect(place.width, place.height, settings_.tile, i);
    cv::Mat pixels = image(tile);
    pixels_of(context, ref, tile.size(), channels).copyTo(pixels);
  }
  return image;
}

Result<void> Jobs::write_encoded(const ImagePlace& place, const JobContext& context) const {
  cv::Mat image = merge(place, context);
  finish(settings_.chain, image);
  auto bytes = encode_image(format_extension(item(place).format), image);
  if (!bytes) return bytes.error();
  return output_.write(place.item, item(place).output, *bytes, place.replaced);
}

Result<void> Jobs::write_mapped(const ImagePlace& place) const {
  if (settings_.chain.needs_finish()) {
    auto map = MappedImage::open(tiles_file(place));
    if (!map) return map.error();
    auto result =
        MappedImage::create(output_.part(place.item), place.width, place.height, map->channels());
    if (!result) return result.error();
    copy_mapped(*map, *result);
    cv::Mat pixels = result->pixels();
    finish(settings_.chain, pixels);
  }
  return output_.publish(place.item, item(place).output, place.replaced);
}

}  // namespace crashworthy::tiles
