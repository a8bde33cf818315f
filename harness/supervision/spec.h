// What a supervision tree is to be: supervisors, children, and how each is started, watched,
// restarted and stopped. The meaning of each word, and its default, is Erlang/OTP's supervisor's
// (stdlib, module supervisor); what goes beyond is said at the field. docs/supervision.md compares.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "harness/os/clock.h"
#include "harness/os/result.h"

namespace crashworthy {

enum class Strategy {
  kOneForOne,   // Only the child that ended is restarted.
  kOneForAll,   // All are stopped in reverse order, then all are started.
  kRestForOne,  // So are it and those started after it.
  kDynamic      // One template, any number of alike children (OTP: simple_one_for_one).
};

enum class RestartType {
  kPermanent,  // Always restarted.
  kTransient,  // Restarted unless it completed: exit code 0; a supervisor: ended by itself.
  kTemporary   // Never restarted, and forgotten when it ends.
};

enum class ChildType { kWorker, kSupervisor };

enum class AutoShutdown { kNever, kAnySignificant, kAllSignificant };

struct StopPolicy {
  enum class Kind {
    kTime,     // Asked to end (SIGTERM to its whole tree); killed when `time` has passed.
    kKill,     // SIGKILL at once.
    kInfinite  // Asked to end, and waited for.
  };
  Kind kind = Kind::kTime;
  Nanoseconds time = std::chrono::seconds(5);
};

// Ours. How a child says that it serves: the start of the next child waits for it.
struct Readiness {
  // The child writes a line to this descriptor (as with s6: its number is also in
  // CRASHWORTHY_READY_FD). Empty: its first heartbeat says so.
  std::optional<int> descriptor = 3;
  // The start has failed when it has said nothing for so long.
  Nanoseconds timeout = std::chrono::seconds(30);
};

// Ours. The child writes a byte or more to `descriptor` (its number is in
// CRASHWORTHY_HEARTBEAT_FD) at least every `interval`. When `misses` intervals pass without, it
// hangs: it is killed, and then treated as having crashed.
struct Heartbeat {
  int descriptor = 4;
  Nanoseconds interval = std::chrono::milliseconds(250);
  int misses = 4;
};

// Ours. The wait before a restart: `first`, then twice as long after each further crash up to
// `max`, each time shortened by a random part of at most `jitter` (0 to 1). It begins anew once the
// child has run for longer than `max`. Zero `first`: at once, as OTP does.
struct Backoff {
  Nanoseconds first{0};
  Nanoseconds max = std::chrono::seconds(30);
  double jitter = 0.5;
};

// Ours. When a child ends in the same way `count` times in a row, each time within `within` of its
// start, the tree says "crash loop" once, in an event and in its status. Restarts stay a matter of
// intensity alone. A count of 0: never.
struct CrashLoop {
  int count = 3;
  Nanoseconds within = std::chrono::seconds(1);
};

// Who is spoken of in a hook.
struct ChildContext {
  std::string path;  // "inner/worker"
  std::uint32_t incarnation = 0;
};

// Ours. Called in the process of the tree, on its thread; must not call the tree. The main of a
// child is its process.
struct LifecycleHooks {
  // Before each start; an error is a failed start.
  std::function<Result<void>(const ChildContext&)> prepare;
  // After it has completed, or has terminated.
  std::function<void(const ChildContext&)> shutdown;
  std::function<void(const ChildContext&)> teardown;
};

struct SupervisorSpec;

// A nested supervisor is no process: of it argument, environment, directory, descriptors, ready,
// heartbeat and deadline are refused, and crash_loop means nothing. Its backoff only ever grows,
// for it does not begin anew (a tree file knows neither of the two for a supervisor).
struct ChildSpec {
  // Unique among the children of its supervisor; without '/', control characters and the like.
  std::string id;

  // Exactly one of these three says what it is.
  std::vector<std::string> command;  // argv[0] is looked up in PATH and passed as written.
  std::string function;              // Registered with register_function() (function.h).
  std::shared_ptr<const SupervisorSpec> supervisor;

  std::string argument;  // Of the function: any bytes.
  // Set for the command or function, over our own environment.
  std::map<std::string, std::string> environment;
  std::filesystem::path directory;  // Its working directory; empty: ours.
  // (Our descriptor, its number in the child, at least 3), borrowed while the tree lives. The child
  // gets these, 0 to 2 and those of readiness and heartbeat, and no others.
  std::vector<std::pair<int, int>> descriptors;

  RestartType restart = RestartType::kPermanent;
  std::optional<StopPolicy> stop;  // Default: 5 s for workers, infinite for supervisors.
  std::optional<ChildType> type;   // Default: by what it is. A command may be a supervisor too.
  bool significant = false;
  std::optional<Readiness> ready;
  std::optional<Heartbeat> heartbeat;
  std::optional<Nanoseconds> deadline;  // Ours: an incarnation that runs longer hangs.
  Backoff backoff;
  CrashLoop crash_loop;
  LifecycleHooks hooks;

  ChildType child_type() const;
  StopPolicy stop_policy() const;
};

struct SupervisorSpec {
  Strategy strategy = Strategy::kOneForOne;
  int intensity = 1;  // More restarts than this within any (t - period, t] end the supervisor.
  Nanoseconds period = std::chrono::seconds(5);
  AutoShutdown auto_shutdown = AutoShutdown::kNever;
  std::vector<ChildSpec> children;  // In start order. kDynamic: the one template.
};

// The words of tree files: "one_for_one", "permanent", ...; empty for an unknown word.
std::string_view strategy_name(Strategy strategy);
std::string_view restart_name(RestartType restart);
std::string_view type_name(ChildType type);
std::string_view auto_shutdown_name(AutoShutdown auto_shutdown);
std::string stop_name(const StopPolicy& stop);  // "5s", "kill", "infinite"
std::optional<Strategy> strategy_from_name(std::string_view name);
std::optional<RestartType> restart_from_name(std::string_view name);
std::optional<ChildType> type_from_name(std::string_view name);
std::optional<AutoShutdown> auto_shutdown_from_name(std::string_view name);

// Children nest at most so deep, and a supervisor has at most so many.
inline constexpr int kMaxSupervisorDepth = 32;
inline constexpr std::size_t kMaxChildren = 100'000;
// The numbers that a child's descriptors may have. The usual limit of open files is 1024; while a
// child is started, what it gets stands above the highest of them.
inline constexpr int kLowestChildDescriptor = 3;
inline constexpr int kHighestChildDescriptor = 767;

// Refuses (kUsage) what makes no sense, with the place as a JSON pointer into a tree file
// ("/children/0/significant: ..."), before anything is started: an empty or repeated id, neither or
// several of command, function and supervisor, a negative intensity, a period of 0, a significant
// child that is permanent or whose supervisor never shuts down by itself, auto_shutdown of a
// dynamic supervisor, a template that is not exactly one, descriptors that clash, times that are
// not positive. Programs are not looked for here.
Result<void> check_spec(const SupervisorSpec& spec, const std::string& pointer = "");
// The same for a child that is to join a supervisor with this auto_shutdown.
Result<void> check_child(const ChildSpec& spec, AutoShutdown auto_shutdown,
                         const std::string& pointer = "");

}  // namespace crashworthy
