// recovery-worker FRAME STAGE: the worker of recovery-benchmark that is executed anew for each
// life, with OpenCV and its image codecs. Reads RecoveryTask with its attempt from standard input,
// and writes a byte to standard output when it has executed it.
#include <sys/prctl.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <vector>

#include "benchmarks/micro/recovery_job.h"
#include "harness/os/shared_memory.h"

namespace bench = crashworthy::benchmark;

int main(int argc, char** argv) {
  if (argc != 3) return 64;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // A victim that waits to be killed never reads again.
  bench::set_up_process();
  auto frame = crashworthy::SharedMemory::attach(crashworthy::UniqueFd(std::atoi(argv[1])));
  auto stage = crashworthy::SharedMemory::attach(crashworthy::UniqueFd(std::atoi(argv[2])));
  if (!frame || !stage) return 5;
  std::vector<std::byte> output(bench::kTileBytes);
  struct {
    bench::RecoveryTask task;
    std::uint32_t attempt;
  } order{};
  while (::read(STDIN_FILENO, &order, sizeof order) == sizeof order) {
    bench::run_task(order.task, order.attempt, *reinterpret_cast<bench::Stage*>(stage->data()),
                    {frame->data(), frame->size()}, output);
    if (::write(STDOUT_FILENO, "x", 1) != 1) return 5;
  }
  return 0;
}
