// Squares a hundred numbers in worker processes. Number 13 aborts its worker whenever it is tried,
// and costs nothing but itself.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "harness/worker/map.h"
#include "harness/worker/pool.h"

using crashworthy::Job;
using crashworthy::JobContext;
using crashworthy::JobOutcome;
using crashworthy::JobOutput;

JobOutput square(const Job& job, const JobContext&) {
  if (job.item == 13) std::abort();
  JobOutput output;
  output.bytes = std::to_string(job.item * job.item);
  return output;
}

int main() {
  auto pool = crashworthy::make_worker_pool({}, square, crashworthy::Probe());
  if (!pool) return std::fprintf(stderr, "%s\n", pool.error().message.c_str()), 1;
  std::vector<Job> jobs(100);
  for (std::size_t i = 0; i < jobs.size(); ++i) jobs[i].item = i;
  auto results = crashworthy::map(**pool, std::move(jobs));
  if (!results) return std::fprintf(stderr, "%s\n", results.error().message.c_str()), 1;
  int done = 0;
  for (const auto& result : *results) done += result.outcome == JobOutcome::kDone;
  std::printf("%d done; 13: %s\n", done, (*results)[13].output.message.c_str());
  return done == 99 ? 0 : 1;
}
