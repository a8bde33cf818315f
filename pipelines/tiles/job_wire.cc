#include "pipelines/tiles/job_wire.h"

#include <algorithm>

#include "harness/worker/executor.h"
#include "pipelines/tiles/settings.h"

namespace crashworthy::tiles {
namespace {

struct OutcomeHead {
  std::int32_t failure = 0;  // FailureReason, 0 for none.
  std::uint32_t message_size = 0;
};

constexpr std::size_t kMaxMessage = kMaxPayload / kMaxBatch - sizeof(OutcomeHead);
static_assert(kMaxBatch * sizeof(ImagePlace) <= kMaxPayload);

}  // namespace

std::string pack(const std::vector<ImagePlace>& places) {
  std::string bytes(places.size() * sizeof(ImagePlace), '\0');
  std::memcpy(bytes.data(), places.data(), bytes.size());
  return bytes;
}

std::vector<ImagePlace> unpack_places(std::string_view bytes) {
  if (bytes.size() % sizeof(ImagePlace) != 0) return {};
  std::vector<ImagePlace> places(bytes.size() / sizeof(ImagePlace));
  if (!places.empty()) std::memcpy(places.data(), bytes.data(), bytes.size());
  return places;
}

std::string pack(const std::vector<WriteOutcome>& outcomes) {
  std::string bytes;
  for (const WriteOutcome& outcome : outcomes) {
    OutcomeHead head;
    if (outcome.failure) head.failure = static_cast<std::int32_t>(*outcome.failure);
    const std::string message = outcome.message.substr(0, kMaxMessage);
    head.message_size = static_cast<std::uint32_t>(message.size());
    bytes.append(reinterpret_cast<const char*>(&head), sizeof(head));
    bytes += message;
  }
  return bytes;
}

std::vector<WriteOutcome> unpack_outcomes(std::string_view bytes) {
  std::vector<WriteOutcome> outcomes;
  while (bytes.size() >= sizeof(OutcomeHead)) {
    OutcomeHead head;
    std::memcpy(&head, bytes.data(), sizeof(head));
    bytes.remove_prefix(sizeof(head));
    WriteOutcome outcome;
    if (head.failure != 0) outcome.failure = static_cast<FailureReason>(head.failure);
    const std::size_t size = std::min<std::size_t>(head.message_size, bytes.size());
    outcome.message = bytes.substr(0, size);
    bytes.remove_prefix(size);
    outcomes.push_back(std::move(outcome));
  }
  return outcomes;
}

}  // namespace crashworthy::tiles
