#include "pipelines/tiles/pipeline.h"

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <utility>

#include "harness/os/check.h"
#include "harness/os/clock.h"

namespace crashworthy::tiles {
namespace {

// How long a wait for results may last: so soon a signal to stop is seen.
constexpr std::int64_t kLookUpMs = 50;

// A line of a terminal, whatever the name of a file holds.
std::string printable(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7F; }, '?');
  return text;
}

// Whether a reader's answer can be true. What it says is the claim of a process that may be beside
// itself.
bool makes_sense(const ImagePlace& place, const Frame& pixels) {
  if (place.width < 1 || place.height < 1) return false;
  if (place.channels != 1 && place.channels != 3) return false;
  return place.mapped != 0 ? !pixels : !pixels || pixels.size() == place.input_bytes();
}

}  // namespace

Pipeline::Pipeline(const Settings& settings, const std::vector<Item>& items,
                   const OutputDirectory& output, Executor& executor, const Probe& probe)
    : settings_(settings),
      items_(items),
      output_(output),
      executor_(executor),
      probe_(probe),
      sizing_(size_up(settings)),
      window_(static_cast<std::size_t>(sizing_.jobs_per_worker) *
              static_cast<std::size_t>(settings.workers)),
      batches_(settings) {}

Summary Pipeline::run(const std::atomic<int>& stop) {
  while (stop.load() == 0 && (next_item_ < items_.size() || !images_.empty())) {
    hand_out();
    auto results = executor_.wait(patience());
    if (!results) {
      summary_.gave_up = results.error();
      break;
    }
    for (JobResult& result : *results) settle(result);
  }
  summary_.unfinished = items_.size() - summary_.delivered - summary_.failed - summary_.lost;
  return summary_;
}

std::chrono::milliseconds Pipeline::patience() const {
  std::int64_t ms = kLookUpMs;
  if (const auto due = batches_.due_ns())
    ms = std::clamp<std::int64_t>((*due - now_ns()) / 1'000'000 + 1, 1, ms);
  return std::chrono::milliseconds(ms);
}

// ---- Handing out ----

// Reads first: few may run at once, so each that waits idles all that follows. Then full batches,
// which give room back. Tiles are the rest; when even they are too few for the workers, batches
// that are not full. Reads do not count: they may be waiting for the room that the others give
// back.
void Pipeline::hand_out() {
  begin_tiles();
  while (hand_out_read() || in_flight_ - reading_ < window_) {
    if (hand_out_batch(false) || hand_out_tile()) continue;
    const bool idle =
        in_flight_ == reading_ || in_flight_ < static_cast<std::size_t>(settings_.workers);
    if (!idle || !hand_out_batch(true)) return;
  }
}

// Of those that were read, the oldest first, and none before it: whatever room it needs will be
// there when those before it have ended.
void Pipeline::begin_tiles() {
  while (!to_begin_.empty()) {
    Image& next = image(to_begin_.front());
    const std::uint64_t room = maps_output(next) ? 0 : sizing_.tile * next.tiles;
    if (tiles_room_ + room > sizing_.tiles) return;
    resize(next.tile_room, tiles_room_, room);
    if (!maps_output(next)) next.filtered.resize(next.tiles);
    to_filter_.push_back(to_begin_.front());
    to_begin_.pop_front();
  }
}

bool Pipeline::hand_out_read() {
  if (next_item_ == items_.size() || reading_ == static_cast<std::size_t>(settings_.producers) ||
      images_.size() == static_cast<std::size_t>(settings_.max_demand) ||
      images_room_ + sizing_.image > sizing_.images) {
    return false;
  }
  const std::uint64_t item = next_item_++;
  Image& taken = images_[item];
  taken.place.item = item;
  resize(taken.image_room, images_room_, sizing_.image);
  probe_.emit(ProbeEvent::kTaken, kCoordinator, item);
  read(item, kPartRead, *std::max_element(last_sizes_.begin(), last_sizes_.end()));
  return true;
}

// An image is read into a frame as large as the last ones needed; if that is too small, its reader
// tells how large it must be, and reads it again. A frame for the largest image that may come would
// find a place only above all that is in use, each the next one above the last, and so touch a new
// piece of memory for every image.
void Pipeline::read(std::uint64_t item, std::uint32_t part, std::uint64_t output_bytes) {
  Image& taken = image(item);
  ++reading_;
  ++taken.in_flight;
  submit(item, part, {taken.place}, output_bytes, {});
}

bool Pipeline::hand_out_tile() {
  if (to_filter_.empty()) return false;
  Image& oldest = image(to_filter_.front());
  const std::uint32_t tile = oldest.next_tile++;
  if (oldest.next_tile == oldest.tiles) to_filter_.pop_front();
  ++oldest.in_flight;
  submit(oldest.place.item, tile, {oldest.place}, tile_bytes(oldest, tile), {oldest.pixels});
  return true;
}

bool Pipeline::hand_out_batch(bool partial) {
  const auto batch = batches_.take(now_ns(), partial);
  if (!batch) return false;
  std::vector<ImagePlace> places;
  std::vector<Frame> inputs;
  for (const std::uint64_t item : *batch) {
    Image& written = image(item);
    ++written.in_flight;
    places.push_back(written.place);
    inputs.push_back(written.table);
    inputs.insert(inputs.end(), written.filtered.begin(), written.filtered.end());
  }
  being_written_[batch->front()] = *batch;
  submit(batch->front(), kPartMerge, places, 0, std::move(inputs));
  return true;
}

void Pipeline::submit(std::uint64_t item, std::uint32_t part, const std::vector<ImagePlace>& places,
                      std::uint64_t output_bytes, std::vector<Frame> inputs) {
  ++in_flight_;
  executor_.submit(Job{item, part, pack(places), output_bytes, std::move(inputs)});
}

// ---- Results ----

Pipeline::Image& Pipeline::image(std::uint64_t item) {
  const auto found = images_.find(item);
  CRASHWORTHY_CHECK(found != images_.end(), item);
  return found->second;
}

bool Pipeline::maps_output(const Image& image) const {
  return items_.at(image.place.item).format == OutputFormat::kPpm;
}

// 0 for a tile that goes to a file.
std::uint64_t Pipeline::tile_bytes(const Image& of, std::uint32_t tile) const {
  if (maps_output(of)) return 0;
  const cv::Rect rect = tile_rect(of.place.width, of.place.height, settings_.tile, tile);
  return std::uint64_t(rect.area()) *
         std::uint64_t(settings_.chain.output_channels(of.place.channels));
}

// Takes `bytes` instead of what was `taken` of `all`.
void Pipeline::resize(std::uint64_t& taken, std::uint64_t& all, std::uint64_t bytes) {
  CRASHWORTHY_CHECK(all >= taken, all, taken);
  all = all - taken + bytes;
  taken = bytes;
}

void Pipeline::settle(JobResult& result) {
  --in_flight_;
  if (result.job.part == kPartMerge) return settle_batch(result);
  Image& of = image(result.job.item);
  --of.in_flight;
  if (result.job.part == kPartRead || result.job.part == kPartReadAgain) {
    --reading_;
    settle_read(of, result);
  } else if (!of.dropped) {
    settle_tile(of, result);
  }
  if (of.dropped && of.in_flight == 0) release(result.job.item);
}

void Pipeline::settle_read(Image& of, JobResult& result) {
  if (result.outcome == JobOutcome::kLost) return lose(of);
  if (result.output.failure) return fail(of, *result.output.failure, result.output.message);
  const std::vector<ImagePlace> places = unpack_places(result.output.bytes);
  const auto tiles = places.size() == 1 && makes_sense(places[0], result.frame)
                         ? tile_count(places[0].width, places[0].height, settings_.tile)
                         : Result<std::size_t>(corrupt_error("the reader's answer makes no sense"));
  if (!tiles) return fail(of, FailureReason::kUnreadable, tiles.error().message);
  if (places[0].mapped == 0 && !result.frame) {
    if (read_again(places[0], result)) return;
    return fail(of, FailureReason::kUnreadable, "the reader's answer makes no sense");
  }
  of.place.width = places[0].width;
  of.place.height = places[0].height;
  of.place.channels = places[0].channels;
  of.place.mapped = places[0].mapped;
  of.tiles = static_cast<std::uint32_t>(*tiles);
  if (!maps_output(of) && sizing_.tile * of.tiles > sizing_.tiles) {
    return fail(of, FailureReason::kTooLarge,
                "its " + std::to_string(of.tiles) + " tiles of " + settings_.tile.text() +
                    " do not fit the frames; take larger tiles, raise --frame-bytes, or take "
                    "--format ppm");
  }
  of.pixels = std::move(result.frame);
  if (of.pixels) last_sizes_[decoded_++ % last_sizes_.size()] = of.pixels.size();
  of.place.pixels = of.pixels.ref();
  resize(of.image_room, images_room_, of.pixels ? frame_extent(of.pixels.size()) : 0);
  to_begin_.push_back(result.job.item);
}

// Into a frame as large as its reader has told that it must be. Once: it may not know what it says.
bool Pipeline::read_again(const ImagePlace& told, const JobResult& result) {
  const std::uint64_t bytes = told.input_bytes();
  if (result.job.part == kPartReadAgain || bytes <= result.job.output_bytes ||
      bytes > settings_.frame_bytes)
    return false;
  read(result.job.item, kPartReadAgain, bytes);
  return true;
}

void Pipeline::settle_tile(Image& of, JobResult& result) {
  if (result.outcome == JobOutcome::kLost) return lose(of);
  if (result.output.failure) return fail(of, *result.output.failure, result.output.message);
  if (result.frame.size() != tile_bytes(of, result.job.part)) {
    return fail(of, FailureReason::kUnreadable, "the answer for a tile makes no sense");
  }
  if (!maps_output(of)) of.filtered.at(result.job.part) = std::move(result.frame);
  if (++of.tiles_done == of.tiles) end_tiles(of);
}

// All that the writer needs is there. What was read is no longer needed.
void Pipeline::end_tiles(Image& of) {
  of.pixels = Frame();
  of.place.pixels = {};
  resize(of.image_room, images_room_, 0);
  if (!maps_output(of)) {
    of.table = executor_.allocate_frame(of.filtered.size() * sizeof(FrameRef));
    CRASHWORTHY_CHECK(of.table, of.filtered.size());  // A ref is smaller than its tile's room.
    std::byte* next = of.table.data();
    for (const Frame& tile : of.filtered) {
      const FrameRef ref = tile.ref();
      std::memcpy(next, &ref, sizeof ref);
      next += sizeof ref;
    }
    of.place.tiles = of.table.ref();
  }
  of.place.replaced = output_.holder(items_[of.place.item].output);
  batches_.add(of.place.item, now_ns());
}

void Pipeline::settle_batch(const JobResult& result) {
  const auto found = being_written_.find(result.job.item);
  CRASHWORTHY_CHECK(found != being_written_.end(), result.job.item);
  const std::vector<std::uint64_t> batch = std::move(found->second);
  being_written_.erase(found);
  batches_.done(result.job.item);
  const std::vector<WriteOutcome> outcomes = unpack_outcomes(result.output.bytes);
  for (std::size_t i = 0; i < batch.size(); ++i) {
    Image& written = image(batch[i]);
    --written.in_flight;
    if (result.output.failure && batch.size() > 1) {
      batches_.add_alone(batch[i]);  // Poison, or hung: the guilty one shows when each is alone.
      continue;
    }
    WriteOutcome outcome{FailureReason::kWrite, "the writer's answer makes no sense"};
    if (i < outcomes.size()) outcome = outcomes[i];
    if (result.output.failure) outcome = {result.output.failure, result.output.message};
    settle_write(written, result, outcome);
  }
}

void Pipeline::settle_write(Image& written, const JobResult& batch, const WriteOutcome& outcome) {
  const std::uint64_t item = written.place.item;
  if (batch.outcome == JobOutcome::kLost) {
    // The writer died, but before or after it had published this one?
    if (output_.published(items_[item].output, written.place.replaced)) {
      deliver(written);
    } else {
      lose(written);
    }
  } else if (outcome.failure) {
    fail(written, *outcome.failure, outcome.message);
  } else {
    deliver(written);
  }
  release(item);
}

// ---- Outcomes ----

void Pipeline::deliver(Image& of) {
  ++summary_.delivered;
  probe_.emit(ProbeEvent::kDelivered, kCoordinator, of.place.item);
  drop(of);
}

void Pipeline::fail(Image& of, FailureReason reason, const std::string& message) {
  ++summary_.failed;
  probe_.emit(ProbeEvent::kFailed, kCoordinator, of.place.item, 0, 0,
              static_cast<std::int64_t>(reason));
  const std::string path = items_[of.place.item].input.string();
  std::fprintf(
      stderr, "%s\n",
      printable("tiles: item " + std::to_string(of.place.item) + " (" + path + "): " + message)
          .c_str());
  drop(of);
}

void Pipeline::lose(Image& of) {
  ++summary_.lost;
  drop(of);
}

// Hands out no more of the image's tiles. Its files go once nobody can touch them any more.
void Pipeline::drop(Image& of) {
  of.dropped = true;
  std::erase(to_filter_, of.place.item);
}

void Pipeline::release(std::uint64_t item) {
  Image& of = image(item);
  CRASHWORTHY_CHECK(of.dropped && of.in_flight == 0, item, of.in_flight);
  output_.discard(item);
  resize(of.image_room, images_room_, 0);
  resize(of.tile_room, tiles_room_, 0);
  images_.erase(item);
}

}  // namespace crashworthy::tiles
