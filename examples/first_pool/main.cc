#include <cstdio>
#include <cstdlib>

#include "harness/worker/map.h"
#include "harness/worker/pool.h"

using namespace crashworthy;

int main() {
  auto pool = make_worker_pool({}, [](const Job& job, const JobContext&) {
    if (job.item == 2) std::_Exit(1);  // As bad native code does: it costs this job alone.
    return JobOutput{"length " + std::to_string(job.arguments.size()), {}, {}};
  });
  if (!pool) return std::fprintf(stderr, "%s\n", pool.error().message.c_str()), 1;
  std::vector<Job> jobs(4);
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    jobs[i].item = i;
    jobs[i].arguments.assign(i, 'x');
  }
  const auto results = map(**pool, std::move(jobs));
  if (!results) return std::fprintf(stderr, "%s\n", results.error().message.c_str()), 1;
  for (const JobResult& result : *results) {  // In the order of the jobs.
    const bool done = result.outcome == JobOutcome::kDone;
    const std::string& text = done ? result.output.bytes : result.output.message;
    std::printf("item %d: %s\n", static_cast<int>(result.job.item), text.c_str());
  }
}
