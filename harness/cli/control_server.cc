#include "harness/cli/control_server.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <utility>

#include "harness/cli/tree_json.h"
#include "harness/os/clock.h"
#include "harness/os/json_fields.h"

namespace crashworthy {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

// How long a client that asks nothing keeps its place when others wait for one; and one whose order
// is being carried out.
constexpr std::int64_t kGrace = 200'000'000;
constexpr std::int64_t kOrderGrace = 10'000'000'000;
// How long we do not accept after that failed: for want of descriptors, say.
constexpr std::int64_t kPause = 100'000'000;

const std::vector<std::string> kCommands{"tree", "status", "stop", "restart", "suspend", "resume"};

ordered_json refused(const std::string& reason, const std::string& error,
                     const std::string& hint = {}) {
  ordered_json answer{{"ok", false}, {"reason", reason}, {"error", error}};
  if (!hint.empty()) answer["hint"] = hint;
  return answer;
}

// OTP's word where it has one (tree_logic.h).
std::string reason_of(Refusal refusal) { return std::string(refusal_name(refusal)); }

}  // namespace

struct ControlServer::Client {
  UniqueFd fd;
  std::string in;
  std::string out;
  bool waits = false;           // For the answer to an order.
  bool closed = false;          // It will send no more.
  bool spoilt = false;          // It broke the protocol: closed after the answer.
  std::int64_t idle_since = 0;  // When it came, or got its last answer.

  bool has_line() const { return in.find('\n') != std::string::npos; }
  bool listens() const { return !waits && out.empty() && !closed && !spoilt; }
  bool done() const { return !waits && out.empty() && (spoilt || (closed && in.empty())); }
};

struct ControlServer::State : std::enable_shared_from_this<State> {
  State(ControlSocket listening, TreeLogic& tree, TreeFacts told)
      : socket(std::move(listening)), logic(tree), facts(std::move(told)) {}

  ControlSocket socket;
  TreeLogic& logic;
  TreeFacts facts;
  std::map<std::uint64_t, Client> clients;
  std::uint64_t last_client = 0;
  std::int64_t accept_at = 0;

  // Who gives up its place, and when it may be taken: the idle ones first.
  std::map<std::uint64_t, Client>::iterator longest_idle() {
    return std::min_element(clients.begin(), clients.end(), [](const auto& a, const auto& b) {
      return std::pair(a.second.waits, a.second.idle_since) <
             std::pair(b.second.waits, b.second.idle_since);
    });
  }

  // The moment from which a further client can be taken.
  std::int64_t may_accept_at() {
    if (clients.size() < kMaxClients) return accept_at;
    const Client& first = longest_idle()->second;
    return std::max(accept_at, first.idle_since + (first.waits ? kOrderGrace : kGrace));
  }

  void accept_all(std::int64_t now) {
    while (may_accept_at() <= now) {
      UniqueFd fd(::accept4(socket.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (!fd.valid()) {
        if (errno == EINTR || errno == ECONNABORTED) continue;
        if (errno != EAGAIN) accept_at = now + kPause;
        return;
      }
      if (clients.size() >= kMaxClients) evict(longest_idle());
      Client client;
      client.fd = std::move(fd);
      client.idle_since = now;
      clients.emplace(++last_client, std::move(client));
    }
  }

  void evict(std::map<std::uint64_t, Client>::iterator client) {
    if (client->second.waits) {
      client->second.out +=
          refused("busy", "too many clients: what was ordered goes on, its answer is lost").dump() +
          "\n";
    }
    flush(client->second);
    clients.erase(client);
  }

  // False when the client is gone.
  bool read_from(Client& client) {
    std::array<char, 4096> buffer{};
    while (client.in.size() <= kMaxRequest && !client.closed) {
      const ssize_t count = ::recv(client.fd.get(), buffer.data(), buffer.size(), 0);
      if (count > 0) {
        client.in.append(buffer.data(), static_cast<std::size_t>(count));
      } else if (count == 0) {
        client.closed = true;
        if (!client.in.empty() && client.in.back() != '\n') client.in += '\n';
      } else if (errno == EAGAIN) {
        break;
      } else if (errno != EINTR) {
        return false;
      }
    }
    return true;
  }

  bool flush(Client& client) {
    while (!client.out.empty()) {
      const ssize_t count =
          ::send(client.fd.get(), client.out.data(), client.out.size(), MSG_NOSIGNAL);
      if (count > 0) {
        client.out.erase(0, static_cast<std::size_t>(count));
      } else if (errno == EAGAIN) {
        return true;
      } else if (errno != EINTR) {
        return false;
      }
    }
    return true;
  }

  void answer(std::uint64_t number, const ordered_json& object, std::int64_t now) {
    const auto found = clients.find(number);
    if (found == clients.end()) return;  // It did not wait.
    Client& client = found->second;
    client.waits = false;
    client.idle_since = now;
    client.out += object.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
  }

  // Takes the next line of a client.
  void take_line(std::uint64_t number, Client& client, std::int64_t now) {
    const std::size_t end = client.in.find('\n');
    const bool whole = end != std::string::npos && end <= kMaxRequest;
    if (!whole) {
      if (client.in.size() <= kMaxRequest) return;
      client.spoilt = true;
      client.in.clear();
      return answer(number,
                    refused("bad_request", "a request has at most " + std::to_string(kMaxRequest) +
                                               " bytes, and ends with a line end"),
                    now);
    }
    const std::string line = client.in.substr(0, end);
    client.in.erase(0, end + 1);
    if (line.empty()) return;
    client.waits = true;
    handle(number, line, now);
  }

  void handle(std::uint64_t number, const std::string& line, std::int64_t now) {
    const auto bad = [&](const Error& error) {
      answer(number, refused("bad_request", error.message, error.hint), now);
    };
    auto request = parse_json(line);
    if (!request) return bad(request.error());
    if (auto checked = require_object(*request, "", {"command", "id"}); !checked)
      return bad(checked.error());
    auto command = read_string(*request, "", "command", "");
    if (!command) return bad(command.error());
    auto id = read_string(*request, "", "id", "");
    if (!id) return bad(id.error());
    if (std::find(kCommands.begin(), kCommands.end(), *command) == kCommands.end()) {
      return bad(field_error("/command", "unknown command " + quoted(json(*command)),
                             suggest(*command, kCommands)));
    }
    const SupervisorInfo info = logic.info(now);
    auto path = find_path(info, facts.name, *id);
    if (!path) {
      const Error& error = path.error();
      const char* reason = error.kind == ErrorKind::kGone ? "not_found" : "ambiguous";
      return answer(number, refused(reason, error.message, error.hint), now);
    }
    if (*command == "tree" || *command == "status") return tell(number, info, *path, now);
    order(number, info, *command, *path, now);
  }

  void tell(std::uint64_t number, const SupervisorInfo& info, const std::string& path,
            std::int64_t now) {
    if (path.empty()) {
      ordered_json tree = tree_json(info, facts.name, now);
      tree["pid"] = ::getpid();
      tree["uptime_ns"] = now - facts.started_ns;
      tree["seed"] = facts.seed;
      return answer(number, {{"ok", true}, {"tree", std::move(tree)}}, now);
    }
    answer(number, {{"ok", true}, {"child", child_json(*find_entry(info, path).entry, now)}}, now);
  }

  // The reply of an order by `number`; it may come when we are gone.
  Reply reply_to(std::uint64_t number, std::string path) {
    return [weak = weak_from_this(), number, path = std::move(path)](const Answer& given) {
      const auto self = weak.lock();
      if (self == nullptr) return;
      const std::int64_t now = now_ns();
      if (!given.ok())
        return self->answer(number, refused(reason_of(*given.refusal), given.text), now);
      const SupervisorInfo info = self->logic.info(now);
      if (path.empty()) return self->tell(number, info, path, now);
      const Found found = find_entry(info, path);
      if (found.entry != nullptr) {
        return self->answer(number, {{"ok", true}, {"child", child_json(*found.entry, now)}}, now);
      }
      // A temporary child, or one of a dynamic supervisor's, is gone once it is stopped.
      self->answer(number, {{"ok", true}, {"child", {{"path", path}, {"forgotten", true}}}}, now);
    };
  }

  void order(std::uint64_t number, const SupervisorInfo& info, const std::string& command,
             const std::string& path, std::int64_t now) {
    Reply reply = reply_to(number, path);
    if (command == "suspend") return logic.suspend(path, now, std::move(reply));
    if (command == "resume") return logic.resume(path, now, std::move(reply));
    if (path.empty()) {
      return answer(
          number,
          refused("invalid", "the root has no supervisor that could " + command + " it",
                  "to end the whole tree, send SIGTERM to pid " + std::to_string(::getpid())),
          now);
    }
    if (const auto suspended = suspended_above(info, path)) {
      return answer(number,
                    refused("suspended",
                            "'" + path + "' is below '" + *suspended +
                                "', which is suspended and takes up no orders",
                            "resume it first: ctl SOCKET resume " + *suspended),
                    now);
    }
    if (command == "stop") return logic.stop_child(path, now, std::move(reply));
    restart(number, find_entry(info, path), now, std::move(reply));
  }

  // The supervisor above `path` that is suspended: it, or one above it, was ordered to be.
  std::optional<std::string> suspended_above(const SupervisorInfo& root,
                                             const std::string& path) const {
    if (root.state == LifeState::kIntermitted) return facts.name;
    for (std::size_t slash = path.find('/'); slash != std::string::npos;
         slash = path.find('/', slash + 1)) {
      const std::string above = path.substr(0, slash);
      const auto child = logic.find(above);
      if (child && child->state == LifeState::kIntermitted) return above;
    }
    return std::nullopt;
  }

  // As administrators mean it: what runs is stopped first.
  void restart(std::uint64_t number, const Found& found, std::int64_t now, Reply reply) {
    const ChildInfo& child = found.entry->child;
    if (child.presence == Presence::kStopped)
      return logic.restart_child(child.path, now, std::move(reply));
    // Its end would be the end of it: nothing would be left to restart.
    if (found.supervisor->strategy == Strategy::kDynamic) {
      return answer(
          number,
          refused(reason_of(Refusal::kDynamic), "'" + child.path +
                                                    "' is one of a dynamic supervisor's children, "
                                                    "which are not restarted by order"),
          now);
    }
    if (child.restart == RestartType::kTemporary) {
      return answer(number,
                    refused(reason_of(Refusal::kInvalid),
                            "'" + child.path + "' is temporary: when it is stopped it is forgotten",
                            "let it end, or make it transient in the tree file"),
                    now);
    }
    const std::string path = child.path;
    logic.stop_child(path, now, [weak = weak_from_this(), path, reply](const Answer& stopped) {
      const auto self = weak.lock();
      if (self == nullptr || !stopped.ok()) return reply(stopped);
      self->logic.restart_child(path, now_ns(), reply);
    });
  }
};

ControlServer::ControlServer(ControlSocket socket, TreeLogic& logic, TreeFacts facts)
    : state_(std::make_shared<State>(std::move(socket), logic, std::move(facts))) {}
ControlServer::~ControlServer() = default;

void ControlServer::add_to(std::vector<pollfd>& set, std::int64_t now) const {
  if (state_->may_accept_at() <= now) set.push_back({state_->socket.fd(), POLLIN, 0});
  for (const auto& [number, client] : state_->clients) {
    const int in = client.listens() ? POLLIN : 0;
    const int out = client.out.empty() ? 0 : POLLOUT;
    set.push_back({client.fd.get(), static_cast<short>(in | out), 0});
  }
}

std::optional<std::int64_t> ControlServer::timeout(std::int64_t now) const {
  for (const auto& [number, client] : state_->clients) {
    const bool more = !client.waits && client.out.empty() && client.has_line();
    if (more) return 0;
  }
  const std::int64_t at = state_->may_accept_at();
  if (at > now) return at - now;
  return std::nullopt;
}

void ControlServer::receive(std::int64_t now) {
  state_->accept_all(now);
  std::vector<std::uint64_t> gone;
  std::vector<std::uint64_t> ready;
  for (auto& [number, client] : state_->clients) {
    // A client that closed both ways waits for nothing; what it has ordered goes on.
    pollfd state{client.fd.get(), 0, 0};
    const bool hung_up = ::poll(&state, 1, 0) == 1 && (state.revents & (POLLHUP | POLLERR)) != 0;
    const bool alive = !client.listens() || state_->read_from(client);
    const bool answerable = !hung_up || (client.has_line() && !client.waits);
    if (!alive || !answerable) {
      gone.push_back(number);
    } else if (!client.waits && client.out.empty()) {
      ready.push_back(number);
    }
  }
  for (const std::uint64_t number : gone) state_->clients.erase(number);
  for (const std::uint64_t number : ready) {
    // An answer that comes at once leaves the map alone, but look again: orders may do anything.
    const auto client = state_->clients.find(number);
    if (client != state_->clients.end()) state_->take_line(number, client->second, now);
  }
}

void ControlServer::send(std::int64_t now) {
  for (auto at = state_->clients.begin(); at != state_->clients.end();) {
    Client& client = at->second;
    const bool had = !client.out.empty();
    const bool alive = !had || state_->flush(client);
    if (had && client.out.empty()) client.idle_since = now;
    at = alive && !client.done() ? std::next(at) : state_->clients.erase(at);
  }
}

}  // namespace crashworthy
