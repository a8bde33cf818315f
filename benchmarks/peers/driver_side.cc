#include "benchmarks/peers/driver_side.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <string_view>
#include <utility>

#include "benchmarks/micro/recovery_sides.h"
#include "harness/os/clock.h"
#include "harness/os/file.h"
#include "harness/os/pidfd.h"

namespace crashworthy::benchmark {
namespace {

constexpr int kOrders = 3, kAnswers = 4, kFrame = 5;  // Descriptors of the driver.
constexpr std::size_t kMaxLine = 1000;
constexpr int kFarewellMs = 5000;

struct Pipe {
  UniqueFd read;
  UniqueFd write;
};

Result<Pipe> make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return system_error("make a pipe", errno);
  return Pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

std::vector<std::string> environment() {
  std::vector<std::string> all;
  for (char** at = environ; *at != nullptr; ++at) all.emplace_back(*at);
  return all;
}

// Until `fd` is readable or ends; false when that takes longer than `bound_ns`.
bool readable_within(int fd, std::int64_t bound_ns) {
  const std::int64_t until = now_ns() + bound_ns;
  for (;;) {
    const std::int64_t left_ms = (until - now_ns()) / 1'000'000;
    pollfd readable{fd, POLLIN, 0};
    const int count = ::poll(&readable, 1, left_ms < 0 ? 0 : static_cast<int>(left_ms));
    if (count > 0) return true;
    if (count == 0 || errno != EINTR) return false;
  }
}

Error unexpected(const std::string& line) {
  return corrupt_error(fmt::format("the driver said '{}'", line));
}

}  // namespace

Result<DriverSide> DriverSide::start(const DriverSpec& spec, int frame) {
  if (::access(spec.argv[0].c_str(), X_OK) != 0) {
    return Error{ErrorKind::kMissing, 0, spec.package, {}};
  }
  auto orders = make_pipe();
  if (!orders) return orders.error();
  auto answers = make_pipe();
  if (!answers) return answers.error();
  ShimSpec shim_spec;
  shim_spec.program = spec.argv[0];
  shim_spec.argv = spec.argv;
  shim_spec.environment = environment();
  auto shim = Shim::create(shim_spec);
  if (!shim) return shim.error();
  auto started = shim->start(
      {{orders->read.get(), kOrders}, {answers->write.get(), kAnswers}, {frame, kFrame}});
  if (!started) return started.error();
  answers->write.reset();
  DriverSide side(*std::move(shim), std::move(orders->write), std::move(answers->read));
  if (auto ready = side.wait_until_ready(); !ready) return ready.error();
  return side;
}

DriverSide::~DriverSide() {
  if (orders_.get() < 0) return;  // Moved from.
  orders_.reset();
  const std::int64_t until = now_ns() + kFarewellMs * std::int64_t{1'000'000};
  while (now_ns() < until && readable_within(answers_.get(), until - now_ns())) {
    char rest[256];
    if (::read(answers_.get(), rest, sizeof rest) <= 0) break;
  }
}

Result<double> DriverSide::measure(bool tile, bool known) {
  if (auto told = write_all(orders_.get(), tile ? "tile\n" : "trivial\n"); !told) {
    return told.error().with_context("give the driver an order");
  }
  auto line = read_line("the victim's start");
  if (!line) return line.error();
  int pid = 0;
  if (std::sscanf(line->c_str(), "victim %d", &pid) != 1) return unexpected(*line);
  auto victim = open_pidfd(pid);
  if (!victim) return victim.error();
  const std::int64_t killed = now_ns();
  if (auto sent = send_signal(victim->get(), SIGKILL); !sent) return sent.error();
  line = read_line("the recovery");
  if (!line) return line.error();
  long long redone_ns = 0, known_ns = 0;
  if (std::sscanf(line->c_str(), "done %lld %lld", &redone_ns, &known_ns) != 2) {
    return unexpected(*line);
  }
  // The driver's clock is ours, and it did nothing before the death.
  if (redone_ns < killed || known_ns < redone_ns || now_ns() < known_ns) return unexpected(*line);
  // So that its repairs are not in the way of who comes next.
  if (auto ready = wait_until_ready(); !ready) return ready.error();
  return static_cast<double>((known ? known_ns : redone_ns) - killed);
}

Result<void> DriverSide::wait_until_ready() {
  auto line = read_line("the start of all workers");
  if (!line) return line.error();
  constexpr std::string_view kNotThere = "missing ";
  if (line->starts_with(kNotThere)) {
    return Error{ErrorKind::kMissing, 0, line->substr(kNotThere.size()), {}};
  }
  if (*line != "ready") return unexpected(*line);
  return {};
}

Result<std::string> DriverSide::read_line(const std::string& what) {
  const std::int64_t until = now_ns() + kRecoveryBoundNs;
  for (;;) {
    const auto end = unread_.find('\n');
    if (end != std::string::npos) {
      std::string line = unread_.substr(0, end);
      unread_.erase(0, end + 1);
      return line;
    }
    if (unread_.size() > kMaxLine) return unexpected(unread_);
    if (!readable_within(answers_.get(), until - now_ns())) return too_late(what);
    char more[256];
    const ssize_t got = ::read(answers_.get(), more, sizeof more);
    if (got == 0) return Error{ErrorKind::kGone, 0, "the driver ended before " + what, {}};
    if (got < 0) return system_error("read from the driver", errno);
    unread_.append(more, static_cast<std::size_t>(got));
  }
}

}  // namespace crashworthy::benchmark
