// A program with two supervised children, complete: a function of its own, which crashes half-way
// and takes up its work again, and a command that tells when it serves. It prints the lifecycle
// log, and ends by itself when the work is done. docs/supervision.md explains the words.
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

#include "harness/os/unique_fd.h"
#include "harness/supervision/event.h"
#include "harness/supervision/function.h"
#include "harness/supervision/tree.h"

namespace {

using namespace std::chrono_literals;

constexpr int kItems = 5;
constexpr int kProgressFd = 7;  // In the worker.

// Runs in a process of its own. What it has done so far stands in a memory file of our program: its
// replacement gets the same one, and goes on behind the last item that was finished.
int work(const std::string& argument) {
  std::int32_t done = 0;
  (void)!::pread(kProgressFd, &done, sizeof done, 0);
  const bool first_time = done == 0;
  while (done < kItems) {
    if (first_time && done == kItems / 2) std::abort();  // The crash.
    ++done;
    std::printf("%s %d of %d\n", argument.c_str(), done, kItems);
    std::fflush(stdout);
    if (::pwrite(kProgressFd, &done, sizeof done, 0) != sizeof done) return 1;
  }
  return 0;  // It is transient: completed, so it is not restarted.
}

crashworthy::ChildSpec service() {
  crashworthy::ChildSpec child;
  child.id = "service";
  // The worker is started when this line is there.
  child.command = {"sh", "-c", "echo serving >&3; exec sleep 1000"};
  child.ready = crashworthy::Readiness{};
  return child;
}

crashworthy::ChildSpec worker(int progress) {
  crashworthy::ChildSpec child;
  child.id = "worker";
  child.function = "work";
  child.argument = "item";
  child.descriptors = {{progress, kProgressFd}};
  child.restart = crashworthy::RestartType::kTransient;
  child.significant = true;  // The tree ends when it has completed.
  return child;
}

void print(const crashworthy::Event& event) {
  using crashworthy::EventKind;
  const auto since_1970 = std::chrono::system_clock::now().time_since_epoch();
  const std::int64_t unix_ns = std::chrono::nanoseconds(since_1970).count();
  if (event.kind == EventKind::kState) {
    std::puts(crashworthy::log_line(event, unix_ns, "program").c_str());
  } else if (event.kind == EventKind::kEnded) {
    std::printf("%s %s\n", event.path.c_str(), event.status->describe().c_str());
  } else if (event.kind == EventKind::kRestart) {
    std::printf("%s is restarted; %d more restarts are allowed\n", event.path.c_str(),
                event.budget_left);
  }
  std::fflush(stdout);
}

int fail(const crashworthy::Error& error) {
  std::fprintf(stderr, "supervised_program: error: %s\n", error.message.c_str());
  return 1;
}

}  // namespace

int main() {
  crashworthy::register_function("work", work);
  if (const auto code = crashworthy::run_child_function()) return *code;

  const crashworthy::UniqueFd progress(::memfd_create("progress", MFD_CLOEXEC));
  if (!progress.valid()) return 1;
  crashworthy::SupervisorSpec spec;
  spec.intensity = 3;  // Restarts
  spec.period = 10s;   // in any time so long; one more ends the tree.
  spec.auto_shutdown = crashworthy::AutoShutdown::kAnySignificant;
  spec.children = {service(), worker(progress.get())};

  crashworthy::TreeOptions options;
  options.sink = print;
  auto tree = crashworthy::SupervisionTree::start(std::move(spec), std::move(options));
  if (!tree) return fail(tree.error());
  const auto end = tree->run_until_end(1min);
  if (!end) return fail(end.error());
  std::printf("ended: %s\n", tree->logic().end_text().c_str());
  return *end == crashworthy::TreeEnd::kAutoShutdown ? 0 : 1;
}
