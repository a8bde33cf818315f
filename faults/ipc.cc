// ipc.*: a relay stands in a stream of the subject, or before a Unix socket, and closes, stalls,
// thins or changes what passes through it.
//
// The proof is the relay's own count of what came, what went on and what it changed. What it wrote
// to the subject's stdin counts only as far as the subject has read it.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "faults/guardian.h"
#include "faults/mechanisms.h"
#include "faults/relay.h"

namespace crashworthy {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

std::string hex(std::uint64_t value) {
  std::array<char, 17> text{};
  std::snprintf(text.data(), text.size(), "%016llx", static_cast<unsigned long long>(value));
  return text.data();
}

// Only what we have made.
void unlink_ours(const char* path, const struct stat& made) {
  struct stat found {};
  if (::lstat(path, &found) == 0 && found.st_ino == made.st_ino && found.st_dev == made.st_dev)
    ::unlink(path);
}

class RelayInjection : public Injection {
 public:
  explicit RelayInjection(InjectionSetup setup) : Injection(std::move(setup)) {
    const Condition* gate = watch_.trigger().gate ? &*watch_.trigger().gate : nullptr;
    from_launch_ = gate != nullptr && gate->kind == Condition::Kind::kAfter && gate->value.low == 0;
  }
  ~RelayInjection() override { end_relay(); }

 protected:
  Result<void> prepare(LaunchPlan& launch) override {
    auto prepared = fault_.has("stream") ? stand_in_stream(launch) : stand_before_socket(launch);
    if (prepared && relay_ && from_launch_ && !disarmed_) relay_->strike(next_strike());
    return prepared;
  }

  // The ends of the subject are its own from now on: the relay must see when it closes them.
  void on_launched(SubjectView&) override { subject_end_.reset(); }

  bool fire(SubjectView&) override {
    // The first one has been waiting in the relay since before the launch.
    if (!from_launch_ || fired_) relay_->strike(next_strike());
    fired_ = true;
    log_step("fired", {{"bytes_before", relay_->counts().in}});
    return true;
  }

  Outcome confirm(const InjectionEvidence&) override {
    end_relay();
    const Relay::Counts counts = relay_->counts();
    log_step("evidence", evidence_of(counts));
    const std::string through = std::to_string(counts.in) + " bytes came through " + name();
    if (counts.struck_ns == 0) return not_activated(through + ", none of them after its moment");
    if (counts.cut + counts.held + counts.flipped == 0)
      return not_activated("nothing came through " + name() + " after its moment");
    if (to_subject() && !was_read(counts))
      return indeterminate("the subject did not read " + name() + " so far");
    if (fault_.fault == "ipc.corrupt" &&
        counts.flipped < static_cast<std::uint64_t>(fault_.number("bits"))) {
      return indeterminate(name() + " ended when " + std::to_string(counts.flipped) + " of " +
                           fault_.text("bits") + " bits were flipped");
    }
    return confirmed(counts.struck_ns, through);
  }

  std::string heal() override {
    end_relay();
    return relay_ ? "the relay passed on what there was and ended" : "nothing to undo";
  }

 private:
  bool to_subject() const { return fault_.has("stream") && number_ == 0; }
  std::string name() const {
    return fault_.has("stream") ? fault_.text("stream") : fault_.text("socket");
  }

  Relay::Strike next_strike() {
    Relay::Strike strike;
    strike.from =
        fault_.has("after_bytes") ? static_cast<std::uint64_t>(fault_.number("after_bytes")) : 0;
    if (fault_.fault == "ipc.stall") {
      strike.action = Relay::Action::kStall;
      if (fault_.has("duration")) strike.stall_ns = fault_.number("duration");
    } else if (fault_.fault == "ipc.drop") {
      strike.action = Relay::Action::kDrop;
      strike.drop = static_cast<std::uint64_t>(fault_.number("bytes"));
    } else if (fault_.fault == "ipc.corrupt") {
      strike.action = Relay::Action::kCorrupt;
      // One in each byte: the same ones however the stream comes in pieces, and none far away.
      for (std::int64_t i = 0; i < fault_.number("bits"); ++i)
        strike.bits.push_back(static_cast<std::uint64_t>(8 * i) + random_.below(8));
    }
    return strike;
  }

  // ---- Standing in a stream ----

  Result<void> stand_in_stream(LaunchPlan& launch) {
    number_ = fault_.text("stream") == "stdin" ? 0 : fault_.text("stream") == "stdout" ? 1 : 2;
    const auto passed = std::find_if(launch.descriptors.begin(), launch.descriptors.end(),
                                     [this](const auto& pair) { return pair.second == number_; });
    if (passed == launch.descriptors.end()) {
      skip("nobody says where the subject's " + name() + " leads");
      return {};
    }
    UniqueFd real(::fcntl(passed->first, F_DUPFD_CLOEXEC, 3));
    std::array<int, 2> ends{-1, -1};
    if (!real.valid() || ::pipe2(ends.data(), O_CLOEXEC) != 0)
      return system_error("make a pipe for " + name(), errno);
    UniqueFd reading(ends[0]);
    UniqueFd writing(ends[1]);
    UniqueFd& ours = number_ == 0 ? writing : reading;
    // Only our end waits for nobody.
    ::fcntl(ours.get(), F_SETFL, O_NONBLOCK);
    subject_end_ = std::move(number_ == 0 ? reading : writing);
    passed->first = subject_end_.get();
    auto relay = number_ == 0 ? Relay::between(std::move(real), std::move(ours))
                              : Relay::between(std::move(ours), std::move(real));
    if (!relay) return relay.error();
    relay_ = std::move(*relay);
    return {};
  }

  // ---- Standing before a socket ----

  Result<void> stand_before_socket(const LaunchPlan& launch) {
    const fs::path path = launch.directory / fault_.text("socket");
    const fs::path upstream = launch.directory / fault_.text("upstream");
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (std::max(path.native().size(), upstream.native().size()) >= sizeof address.sun_path)
      return usage_error("the path of a socket is longer than the system allows");
    std::error_code failure;
    if (fs::exists(fs::symlink_status(path, failure))) {
      skip("there is something at '" + path.string() + "' already");
      return {};
    }
    log_step("create", {{"socket", path.string()}}, true);
    UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    // Linux gives the new file the mode of the socket.
    if (!listener.valid() || ::fchmod(listener.get(), S_IRUSR | S_IWUSR) != 0 ||
        ::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
      return system_error("make the socket '" + path.string() + "'", errno);
    auto guardian = Guardian::start(path, unlink_ours);
    if (!guardian) {
      ::unlink(path.c_str());
      return guardian.error();
    }
    socket_ = *std::move(guardian);
    if (::listen(listener.get(), SOMAXCONN) != 0)
      return system_error("listen at '" + path.string() + "'", errno);
    auto relay =
        Relay::listening(std::move(listener), upstream, fault_.text("direction") == "back");
    if (!relay) return relay.error();
    relay_ = std::move(*relay);
    return {};
  }

  void end_relay() {
    subject_end_.reset();
    if (relay_) relay_->finish();
    socket_.dismiss();
  }

  // ---- Proof ----

  // Whether the subject has read up to where it was struck: beyond it, or all that there was.
  bool was_read(const Relay::Counts& counts) const {
    const std::uint64_t read = counts.out - counts.unread;
    if (fault_.fault == "ipc.corrupt") return read > counts.changed.back().offset;
    return counts.unread == 0 || read > counts.struck_out;
  }

  static json evidence_of(const Relay::Counts& counts) {
    json changed = json::array();
    for (const Relay::Changed& byte : counts.changed)
      changed.push_back({{"offset", byte.offset}, {"before", byte.before}, {"after", byte.after}});
    return {{"bytes_in", counts.in},
            {"bytes_out", counts.out},
            {"bytes_cut", counts.cut},
            {"bytes_held", counts.held},
            {"bits_flipped", counts.flipped},
            {"bytes_unread", counts.unread},
            {"bytes_lost_at_the_end", counts.lost},
            {"digest_in", hex(counts.digest_in)},
            {"digest_out", hex(counts.digest_out)},
            {"changed", changed},
            {"strikes", counts.strikes},
            {"struck_at_byte", counts.struck_in},
            {"struck_ns", counts.struck_ns},
            {"stalled_ns", counts.stalled_ns},
            {"connections", counts.connections},
            {"refused", counts.refused}};
  }

  bool from_launch_ = false;
  bool fired_ = false;
  int number_ = -1;       // Of the stream.
  UniqueFd subject_end_;  // Until it has it.
  std::unique_ptr<Relay> relay_;
  Guardian socket_;  // Of its file.
};

}  // namespace

std::unique_ptr<Injection> make_relay_injection(InjectionSetup setup) {
  return std::make_unique<RelayInjection>(std::move(setup));
}

}  // namespace crashworthy
