// Subject::launch: checks what is asked, starts crashworthy-init, waits for its answer.
#include "harness/process/launcher.h"

#include <unistd.h>

#include <cstdlib>

#include "harness/process/process_tree.h"
#include "harness/process/program_path.h"
#include "harness/process/start_init.h"
#include "harness/process/subject_state.h"

namespace crashworthy {
namespace {

constexpr std::size_t kMaxDescriptors = 512;

Result<std::optional<Containment>> forced_containment(const LaunchSpec& spec) {
  if (spec.containment) return spec.containment;
  const char* name = std::getenv("CRASHWORTHY_CONTAINMENT");
  if (name == nullptr || *name == '\0') return std::optional<Containment>();
  const auto named = containment_from_name(name);
  if (named) return named;
  return usage_error("CRASHWORTHY_CONTAINMENT is '" + std::string(name) + "'",
                     "use pid_namespace, cgroup or subreaper, or unset it");
}

std::string find_why_no_mounts() {
  LaunchSpec spec;
  spec.argv = {"true"};
  spec.environment = {"PATH=/usr/bin:/bin"};
  auto subject = Subject::launch(spec);
  if (!subject) return subject.error().message;
  if (subject->containment() == Containment::kPidNamespace) return {};
  return std::string("a subject has no namespaces here, but the containment ") +
         containment_name(subject->containment()) +
         (subject->containment_reason().empty() ? "" : ": " + subject->containment_reason());
}

}  // namespace

const std::string& why_no_mounts() {
  static const std::string why = find_why_no_mounts();
  return why;
}

Result<Subject> Subject::launch(const LaunchSpec& spec) {
  if (auto ok = check_command(spec); !ok) return ok.error();
  if (auto ok = check_descriptors(spec.descriptors, 0, kMaxDescriptors); !ok) return ok.error();
  const auto forced = forced_containment(spec);
  if (!forced) return forced.error();
  const auto candidates = program_candidates(spec.argv[0], spec.environment);
  auto started = start_init("--launch", spec, candidates, *forced);
  if (!started) return started.error();

  // From here on the destructor of `subject` cleans up.
  Subject subject(std::make_unique<State>());
  State& state = *subject.state_;
  state.outer = std::move(started->pidfd);
  state.control = std::move(started->control);
  state.lifeline = std::move(started->lifeline);
  Result<Received> answer = await_answer(state.control.get());
  while (answer && (answer->message.kind == MessageKind::kHeld ||
                    answer->message.kind == MessageKind::kListener)) {
    if (answer->message.kind == MessageKind::kListener) {
      if (answer->descriptors.empty() || !spec.on_listener) {
        return corrupt_error("crashworthy-init sent a listener that nobody asked for");
      }
      spec.on_listener(std::move(answer->descriptors[0]));
    } else {
      const pid_t pid =
          answer->message.names_process != 0 ? answer->credentials_pid : answer->message.pid;
      if (auto ready = spec.before_exec(pid); !ready) return ready.error();
      (void)!::write(started->gate.get(), "", 1);
    }
    answer = await_answer(state.control.get());
  }
  if (!answer) return answer.error().with_context("unable to start '" + spec.argv[0] + "'");
  const Message& message = answer->message;
  if (message.kind == MessageKind::kFailed) return explain_failure(spec, candidates, message);
  auto& fds = answer->descriptors;
  if (message.kind != MessageKind::kStarted || fds.size() < 2 ||
      message.containment >= kContainments.size()) {
    return corrupt_error("crashworthy-init gave an answer that makes no sense");
  }
  state.main = std::move(fds[0]);
  state.reaper = std::move(fds[1]);
  if (fds.size() > 2) state.cgroup = std::move(fds[2]);
  state.containment = static_cast<Containment>(message.containment);
  state.reason = message.reason;
  state.main_pid = state.our_pid(*answer);
  if (state.main_pid == 0) state.main_pid = pid_of_pidfd(state.main.get()).value_or(0);
  return subject;
}

}  // namespace crashworthy
