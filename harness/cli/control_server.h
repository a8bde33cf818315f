// ControlServer: answers what is asked of a running tree through its socket (docs/supervision.md).
#pragma once

#include <poll.h>

#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "harness/cli/control_socket.h"
#include "harness/os/unique_fd.h"
#include "harness/supervision/tree_logic.h"

namespace crashworthy {

// What the server tells beside the tree itself.
struct TreeFacts {
  std::string name;
  std::uint64_t seed = 0;
  std::int64_t started_ns = 0;
};

// One line is one request, a JSON object, and gets one line as its answer. A client has one request
// under way at a time; more of its lines wait in the kernel. At most kMaxClients are served at
// once: when others wait, the one that has been idle longest gives up its place.
//
// Nothing here ever waits. Not thread-safe: it lives on the thread of the tree. `logic` and the
// server must end together: replies that come later are dropped.
class ControlServer {
 public:
  static constexpr std::size_t kMaxClients = 16;
  static constexpr std::size_t kMaxRequest = 16 * 1024;

  ControlServer(ControlSocket socket, TreeLogic& logic, TreeFacts facts);
  ~ControlServer();
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;

  // What to wait for, and for how long at most (ns; empty: for ever).
  void add_to(std::vector<pollfd>& set, std::int64_t now) const;
  std::optional<std::int64_t> timeout(std::int64_t now) const;
  // Takes what came, and gives the orders to the logic.
  void receive(std::int64_t now);
  // Sends what is to be sent.
  void send(std::int64_t now);

 private:
  struct Client;
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace crashworthy
