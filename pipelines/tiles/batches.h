// Finished images on their way to the writers: they go to the batchers in turn, and leave in
// batches.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <vector>

#include "pipelines/tiles/settings.h"

namespace crashworthy::tiles {

class Batches {
 public:
  explicit Batches(const Settings& settings);

  void add(std::uint64_t item, std::int64_t now_ns);
  // The item's first batch could not be written as one, and nobody knows by whose fault: it goes
  // alone.
  void add_alone(std::uint64_t item);

  // The next batch that may be written now: a full one, one that has waited for the batch timeout,
  // or, with `partial`, any. It counts as being written until done() with its first item.
  std::optional<std::vector<std::uint64_t>> take(std::int64_t now_ns, bool partial);
  void done(std::uint64_t first);

  // When a batch that is not full will have waited long enough; empty when none waits.
  std::optional<std::int64_t> due_ns() const;

 private:
  struct Waiting {
    std::uint64_t item = 0;
    std::int64_t since_ns = 0;
    bool alone = false;
  };
  struct State {
    Batcher batcher;
    std::deque<Waiting> waiting;
    int running = 0;
  };
  std::optional<std::vector<std::uint64_t>> take_from(State& state, std::int64_t now_ns,
                                                      bool partial);

  std::vector<State> states_;
  std::size_t next_ = 0;
  std::map<std::uint64_t, std::size_t>
      running_;  // The batcher of each batch that is being written.
  std::int64_t timeout_ns_;
};

}  // namespace crashworthy::tiles
