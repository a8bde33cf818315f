#include "pipelines/tiles/pipeline.h"

#include <algorithm>
#include <cstdio>

#include "harness/os/check.h"
#include "harness/os/clock.h"

namespace crashworthy::tiles {
namespace {

// How long a wait for results may last: so soon a signal to stop is seen.
constexpr std::int64_t kLookUpMs = 50;

// Enough jobs that no worker has to wait for the coordinator, few enough that a read or a batch
// that becomes possible goes before tiles that are not begun.
constexpr std::size_t kJobsPerWorker = 3;

// A line of a terminal, whatever the name of a file holds.
std::string printable(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7F; }, '?');
  return text;
}

}  // namespace

Pipeline::Pipeline(const Settings& settings, const std::vector<Item>& items, FrameSlots& frames,
                   const OutputDirectory& output, Executor& executor, const Probe& probe)
    : settings_(settings),
      items_(items),
      frames_(frames),
      output_(output),
      executor_(executor),
      probe_(probe),
      window_(kJobsPerWorker * static_cast<std::size_t>(settings.workers)),
      batches_(settings) {
  for (int i = frames.count(); i-- > 0;) free_slots_.push_back(static_cast<std::uint32_t>(i));
}

Summary Pipeline::run(const std::atomic<int>& stop) {
  while (stop.load() == 0 && (next_item_ < items_.size() || !images_.empty())) {
    hand_out();
    auto results = executor_.wait(patience());
    if (!results) {
      summary_.gave_up = results.error();
      break;
    }
    for (const JobResult& result : *results) settle(result);
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
// which free slots. Tiles are the rest; when even they are too few for the workers, batches that
// are not full.
void Pipeline::hand_out() {
  while (in_flight_ < window_) {
    if (hand_out_read() || hand_out_batch(false) || hand_out_tile()) continue;
    const bool idle = in_flight_ < static_cast<std::size_t>(settings_.workers);
    if (!idle || !hand_out_batch(true)) return;
  }
}

bool Pipeline::hand_out_read() {
  if (next_item_ == items_.size() || free_slots_.empty() || reading_ >= settings_.producers) {
    return false;
  }
  const std::uint64_t item = next_item_++;
  Image& taken = images_[item];
  taken.place.item = item;
  taken.place.slot = free_slots_.back();
  free_slots_.pop_back();
  probe_.emit(ProbeEvent::kTaken, kCoordinator, item);
  ++reading_;
  ++taken.in_flight;
  submit(item, kPartRead, {taken.place});
  return true;
}

bool Pipeline::hand_out_tile() {
  if (to_filter_.empty()) return false;
  Image& oldest = image(to_filter_.front());
  const std::uint32_t tile = oldest.next_tile++;
  if (oldest.next_tile == oldest.tiles) to_filter_.pop_front();
  ++oldest.in_flight;
  submit(oldest.place.item, tile, {oldest.place});
  return true;
}

bool Pipeline::hand_out_batch(bool partial) {
  const auto batch = batches_.take(now_ns(), partial);
  if (!batch) return false;
  std::vector<ImagePlace> places;
  for (const std::uint64_t item : *batch) {
    Image& written = image(item);
    ++written.in_flight;
    places.push_back(written.place);
  }
  being_written_[batch->front()] = *batch;
  submit(batch->front(), kPartMerge, places);
  return true;
}

void Pipeline::submit(std::uint64_t item, std::uint32_t part,
                      const std::vector<ImagePlace>& places) {
  ++in_flight_;
  executor_.submit(Job{item, part, pack(places), 0, {}});
}

// ---- Results ----

Pipeline::Image& Pipeline::image(std::uint64_t item) {
  const auto found = images_.find(item);
  CRASHWORTHY_CHECK(found != images_.end(), item);
  return found->second;
}

void Pipeline::settle(const JobResult& result) {
  --in_flight_;
  if (result.job.part == kPartMerge) return settle_batch(result);
  Image& of = image(result.job.item);
  --of.in_flight;
  if (result.job.part == kPartRead) {
    --reading_;
    settle_read(of, result);
  } else if (!of.dropped) {
    settle_tile(of, result);
  }
  if (of.dropped && of.in_flight == 0) release(result.job.item);
}

void Pipeline::settle_read(Image& of, const JobResult& result) {
  if (result.outcome == JobOutcome::kLost) return lose(of);
  if (result.output.failure) return fail(of, *result.output.failure, result.output.message);
  const std::vector<ImagePlace> places = unpack_places(result.output.bytes);
  const auto tiles = places.size() == 1
                         ? tile_count(places[0].width, places[0].height, settings_.tile)
                         : Result<std::size_t>(corrupt_error("the reader's answer makes no sense"));
  if (!tiles) return fail(of, FailureReason::kUnreadable, tiles.error().message);
  const std::uint32_t slot = of.place.slot;
  of.place = places[0];
  of.place.item = result.job.item;
  of.place.slot = slot;
  of.tiles = static_cast<std::uint32_t>(*tiles);
  to_filter_.push_back(result.job.item);
}

void Pipeline::settle_tile(Image& of, const JobResult& result) {
  if (result.outcome == JobOutcome::kLost) return lose(of);
  if (result.output.failure) return fail(of, *result.output.failure, result.output.message);
  if (++of.tiles_done == of.tiles) batches_.add(result.job.item, now_ns());
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
    if (output_.published(items_[item].output, frames_.inode(written.place.slot).load())) {
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

// Hands out no more of the image's tiles. Its slot is free once nobody can touch it any more.
void Pipeline::drop(Image& of) {
  of.dropped = true;
  std::erase(to_filter_, of.place.item);
}

void Pipeline::release(std::uint64_t item) {
  const Image& of = image(item);
  CRASHWORTHY_CHECK(of.dropped && of.in_flight == 0, item, of.in_flight);
  output_.discard(item);
  // Of an image that was not read nobody knows how far its reader came.
  frames_.recycle(of.place.slot, of.tiles == 0 ? frames_.frame_bytes() : of.place.input_bytes());
  free_slots_.push_back(of.place.slot);
  images_.erase(item);
}

}  // namespace crashworthy::tiles
