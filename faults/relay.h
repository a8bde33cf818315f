// Passes the bytes of a stream on, untouched until it is told to strike it.
#pragma once

#include <cstdint>
#include <deque>
#include <filesystem>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "harness/os/result.h"
#include "harness/os/unique_fd.h"

namespace crashworthy {

// Stands between two descriptors, or between those who connect to a Unix stream socket and the
// socket they are meant for, and passes bytes on from a thread of its own. It is a pipe: an end on
// one side ends the other, a reader that goes makes the writer's next write fail, and what nobody
// reads makes the writer wait. Passed descriptors (SCM_RIGHTS) do not come through.
//
// All members may be called from any thread.
class Relay {
 public:
  enum class Action { kClose, kStall, kDrop, kCorrupt };
  struct Strike {
    Action action = Action::kClose;
    std::uint64_t from = 0;                // Not before so many bytes have come.
    std::int64_t stall_ns = INT64_MAX;     // kStall; INT64_MAX: until finish().
    std::uint64_t drop = 0;                // kDrop: bytes.
    std::vector<std::uint64_t> bits = {};  // kCorrupt: these, counted from its first byte.
  };
  struct Changed {
    std::uint64_t offset = 0;  // In the stream.
    std::uint8_t before = 0;
    std::uint8_t after = 0;
  };
  // Of the direction that is struck.
  struct Counts {
    std::uint64_t in = 0;
    std::uint64_t out = 0;
    std::uint64_t digest_in = 0;  // FNV-1a
    std::uint64_t digest_out = 0;
    std::uint64_t unread = 0;      // Of `out`, never read by the other side of the pipe.
    std::uint64_t lost = 0;        // Could not be passed on at the end: nobody took it in time.
    std::uint64_t cut = 0;         // Came for a closed or dropping stream.
    std::uint64_t held = 0;        // Waited when a stall was first seen to hold something.
    std::uint64_t flipped = 0;     // Bits.
    std::vector<Changed> changed;  // The first of them.
    int strikes = 0;               // That have begun.
    std::int64_t struck_ns = 0;    // The first effect on a byte; kClose, kStall: the beginning.
    std::uint64_t struck_in = 0;   // Bytes that had come then,
    std::uint64_t struck_out = 0;  // and that had been passed on.
    std::int64_t stalled_ns = 0;   // So long.
    int connections = 0;
    int refused = 0;  // Connections for which the other socket could not be reached.
  };

  // Between pipes and the like. A descriptor with O_NONBLOCK is ours alone.
  static Result<std::unique_ptr<Relay>> between(UniqueFd in, UniqueFd out);
  // Between a listening socket and the one at `upstream`. What goes `back`, to those who connect,
  // is struck, or else what comes from them.
  static Result<std::unique_ptr<Relay>> listening(UniqueFd listener, std::filesystem::path upstream,
                                                  bool back);
  ~Relay();

  void strike(Strike strike);
  // When all who wrote are gone: passes on what is left (a stall is over) and ends. Waits while the
  // rest is being taken, at most 30 s for each part of it.
  void finish();
  Counts counts() const;

 private:
  struct Lane {
    UniqueFd in;
    UniqueFd out;
    bool struck = true;     // The direction that strikes are for.
    bool own_pipe = false;  // It ends in a pipe of ours.
    bool closing = false;   // By a strike.
    bool polite = false;    // `out` is not ours alone: never written to when that may block.
    bool quiet = false;     // Stalled, and known to hold something or to have ended.
    std::string rest;       // Read, and not written yet.
    UniqueFd peek;          // Of a closed pipe, to see what is not read.
  };

  Relay() = default;
  Result<void> start();
  static Lane make_lane(UniqueFd in, UniqueFd out, bool struck);
  // Of the thread, with mutex_ held but while it waits.
  void run();
  void begin_strikes(std::int64_t now);
  void end_stall(std::int64_t now);
  bool is_over(std::int64_t now);
  void accept_one();
  void on_input(Lane& lane);
  void on_data(Lane& lane, std::string data);
  void write_rest(Lane& lane);
  void close_out(Lane& lane);
  void end(Lane& lane);
  bool stalled(const Lane& lane) const { return lane.struck && stalled_from_ns_ != 0; }
  void mark_struck(std::int64_t now);

  std::filesystem::path upstream_;
  bool back_ = false;
  UniqueFd listener_;
  UniqueFd wake_;
  std::thread thread_;
  mutable std::mutex mutex_;
  std::list<Lane> lanes_;
  std::deque<Strike> strikes_;  // The first one may be in force.
  bool begun_ = false;
  std::uint64_t passed_ = 0;  // Bytes since it began.
  std::int64_t stalled_from_ns_ = 0;
  bool finishing_ = false;
  std::int64_t moved_ns_ = 0;  // The last byte that moved.
  Counts counts_;
};

}  // namespace crashworthy
