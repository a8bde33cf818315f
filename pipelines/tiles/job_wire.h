// What the coordinator and the workers tell each other about images: plain bytes, since a job may
// be run by another process.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "harness/probe/probe.h"
#include "harness/worker/frame.h"

namespace crashworthy::tiles {

// The part of a read into a frame that is large enough, after kPartRead found that its own is not:
// a unit of work of its own, and nothing that is done twice.
inline constexpr std::uint32_t kPartReadAgain = kPartMerge + 1;

// What an image is and where it lies. A tile job takes one, a batch one for each of its images; a
// read job takes one without the size and gives it back with it.
struct ImagePlace {
  std::uint64_t item = 0;
  FrameRef pixels;  // What was read; nothing if it is a file to be mapped.
  // The frame with the FrameRefs of all its tiles, filtered, in their order; nothing if they were
  // written to a file.
  FrameRef tiles;
  std::uint64_t replaced = 0;  // What had the name of the result before: OutputDirectory::holder().
  std::int32_t width = 0;
  std::int32_t height = 0;
  std::int32_t channels = 0;
  std::uint32_t mapped = 0;  // 1: the input is a file to be mapped, and its colours lie as R, G, B.

  std::uint64_t input_bytes() const {
    return std::uint64_t(width) * std::uint64_t(height) * std::uint64_t(channels);
  }
};
static_assert(std::is_trivially_copyable_v<ImagePlace>);

std::string pack(const std::vector<ImagePlace>& places);
// Empty when `bytes` is no list of places.
std::vector<ImagePlace> unpack_places(std::string_view bytes);

// What became of one image of a batch.
struct WriteOutcome {
  std::optional<FailureReason> failure;
  std::string message;
};

// Messages are cut so that a batch's outcomes fit a job's output.
std::string pack(const std::vector<WriteOutcome>& outcomes);
std::vector<WriteOutcome> unpack_outcomes(std::string_view bytes);

}  // namespace crashworthy::tiles
