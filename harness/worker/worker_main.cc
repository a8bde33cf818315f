#include "harness/worker/worker_main.h"

#include <sys/prctl.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <memory>

#include "harness/os/clock.h"
#include "harness/worker/run_job.h"
#include "harness/worker/wire.h"

namespace crashworthy {

void settle_in(pid_t coordinator) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  // The coordinator may have died before the line above: then no signal will ever come.
  if (::getppid() != coordinator) ::_exit(0);
  for (int signal = 1; signal < NSIG; ++signal) ::signal(signal, SIG_DFL);
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

namespace {

// False when the coordinator is gone.
bool execute(int socket, Lease& lease, const JobFunction& function, const Probe& probe,
             const Job& job, const JobContext& context) {
  const JobKey key{job.item, job.part};
  lease.begin(key, context.who.incarnation, context.attempt, now_ns());
  const JobOutput output = run_job(function, job, context, probe);
  // Before the answer leaves: with the answer in hand the coordinator may give the job up for done,
  // and a lease that still claimed it would name the wrong victim.
  lease.finish();
  return send_answer(socket, context.who, key, output);
}

}  // namespace

void run_worker(int socket, Lease& lease, const JobFunction& function,
                const Probe& probe) noexcept {
  const auto buffer = std::make_unique<OrderBuffer>();
  ProbeIdentity who;
  Job job;
  bool going = true;
  while (going && receive_order(socket, *buffer)) {
    const WorkerOrder& order = buffer->order;
    if (order.kind == OrderKind::kActivate) {
      who = {order.worker, order.incarnation};
      probe.emit(ProbeEvent::kWorkerReady, who);
      continue;
    }
    job.item = order.item;
    job.part = order.part;
    job.arguments.assign(buffer->arguments());
    going = execute(socket, lease, function, probe, job, JobContext{who, order.attempt});
  }
  std::fflush(nullptr);  // What jobs printed; the parent's own text was flushed before the fork.
  ::_exit(0);
}

}  // namespace crashworthy
