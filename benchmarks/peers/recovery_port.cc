// recovery-port: the worker of the Erlang peer of peers-benchmark, a port program with OpenCV and
// its image codecs. Packets have four bytes of length before them, the first the highest.
//
//   it tells     R              it is up
//   it is told   1 or 2, FRAME  an item, on its first or its second attempt; FRAME may be empty
//   it tells     V PID          at the first attempt, and waits, busy, to be killed
//   it tells     D TIME DATA    at the second: done at TIME (CLOCK_MONOTONIC in ns), with the
//   result
//
// PID and TIME are eight bytes, the first the highest.
#include <sys/prctl.h>
#include <unistd.h>

#include <csignal>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "benchmarks/micro/recovery_job.h"
#include "harness/os/clock.h"
#include "harness/os/file.h"

namespace crashworthy::benchmark {
namespace {

constexpr std::size_t kMaxPacket = 1 << 20;
constexpr std::int64_t kBoundNs = 60'000'000'000;  // Of a victim's wait.

std::string big_endian(std::uint64_t value, int bytes) {
  std::string text;
  for (int i = bytes - 1; i >= 0; --i) text += static_cast<char>(value >> (8 * i));
  return text;
}

bool tell(char kind, const std::string& rest) {
  return write_all(STDOUT_FILENO, big_endian(rest.size() + 1, 4) + kind + rest).ok();
}

bool read_exactly(void* into, std::size_t bytes) {
  auto* at = static_cast<char*>(into);
  while (bytes > 0) {
    const ssize_t got = ::read(STDIN_FILENO, at, bytes);
    if (got <= 0) return false;
    at += got;
    bytes -= static_cast<std::size_t>(got);
  }
  return true;
}

// Empty: the port is closed.
std::string read_packet() {
  unsigned char length[4];
  if (!read_exactly(length, sizeof length)) return {};
  const std::size_t bytes = (std::size_t{length[0]} << 24) | (std::size_t{length[1]} << 16) |
                            (std::size_t{length[2]} << 8) | length[3];
  if (bytes > kMaxPacket) return {};
  std::string packet(bytes, '\0');
  return read_exactly(packet.data(), bytes) ? packet : std::string();
}

bool serve(const std::string& packet, Stage& stage) {
  if (packet[0] == 1) {
    if (!tell('V', big_endian(static_cast<std::uint64_t>(::getpid()), 8))) return false;
    for (const std::int64_t until = now_ns() + kBoundNs; now_ns() < until;) continue;
    return false;
  }
  const bool tile = packet.size() == 1 + kTileBytes;
  RecoveryTask task;
  task.work = tile ? Work::kTile : Work::kTrivial;
  std::string result(tile ? kTileBytes / 3 : 0, '\0');
  run_task(task, 2, stage, std::as_bytes(std::span(packet).subspan(1)),
           std::as_writable_bytes(std::span(result)));
  return tell('D', big_endian(static_cast<std::uint64_t>(stage.redone_ns.load()), 8) + result);
}

}  // namespace
}  // namespace crashworthy::benchmark

int main() {
  namespace bench = crashworthy::benchmark;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  bench::set_up_process();
  bench::Stage stage;
  if (!bench::tell('R', {})) return 5;
  for (;;) {
    const std::string packet = bench::read_packet();
    if (packet.empty() || !bench::serve(packet, stage)) return 0;
  }
}
