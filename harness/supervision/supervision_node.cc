// A program that runs a supervision tree of three levels, for tests that kill parts of it.
//
// The host has two nodes and three leaves; each node runs a tree of its own, of four leaves, of
// which one has a child and one a daemon with a child: 20 processes that live, and the shims.
#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "harness/os/unique_fd.h"
#include "harness/supervision/function.h"
#include "harness/supervision/tree.h"

namespace crashworthy {
namespace {

[[noreturn]] void sleep_for_ever() {
  while (true) ::pause();
}

int leaf(const std::string&) { sleep_for_ever(); }

int parent_leaf(const std::string&) {
  (void)!::fork();
  sleep_for_ever();
}

int daemon_leaf(const std::string&) {
  if (::fork() == 0) {
    ::setsid();
    if (::fork() != 0) ::_exit(0);
    (void)!::fork();
  }
  sleep_for_ever();
}

ChildSpec child(const std::string& id, const std::string& function) {
  ChildSpec spec;
  spec.id = id;
  spec.function = function;
  return spec;
}

int fail(const Error& error) {
  std::fprintf(stderr, "supervision_node: %s\n", error.message.c_str());
  return 1;
}

// Runs a tree of `children` until SIGTERM asks for its end.
int run_tree(std::vector<ChildSpec> children) {
  sigset_t terminate;
  ::sigemptyset(&terminate);
  ::sigaddset(&terminate, SIGTERM);
  ::sigprocmask(SIG_BLOCK, &terminate, nullptr);
  const UniqueFd asked(::signalfd(-1, &terminate, SFD_CLOEXEC | SFD_NONBLOCK));
  SupervisorSpec spec;
  spec.intensity = 1000;
  spec.children = std::move(children);
  auto tree = SupervisionTree::create(std::move(spec));
  if (!tree) return fail(tree.error());
  while (!tree->logic().ended()) {
    const auto timeout = tree->timeout();
    pollfd poll_fds[] = {{asked.get(), POLLIN, 0}, {tree->event_fd(), POLLIN, 0}};
    const int ms = timeout ? static_cast<int>(*timeout / std::chrono::milliseconds(1)) + 1 : -1;
    ::poll(poll_fds, 2, ms);
    signalfd_siginfo info{};
    if (::read(asked.get(), &info, sizeof info) > 0) tree->shutdown();
    if (auto ran = tree->run(std::chrono::nanoseconds(0)); !ran) return fail(ran.error());
  }
  return tree->logic().ended() == TreeEnd::kAsked ? 0 : 1;
}

int node(const std::string&) {
  return run_tree({child("plain", "leaf"), child("parent", "parent_leaf"),
                   child("daemon", "daemon_leaf"), child("other", "leaf")});
}

int host() {
  return run_tree({child("left", "node"), child("a", "leaf"), child("b", "leaf"),
                   child("right", "node"), child("c", "leaf")});
}

}  // namespace
}  // namespace crashworthy

int main() {
  using namespace crashworthy;
  register_function("leaf", leaf);
  register_function("parent_leaf", parent_leaf);
  register_function("daemon_leaf", daemon_leaf);
  register_function("node", node);
  if (const auto code = run_child_function()) return *code;
  return host();
}
