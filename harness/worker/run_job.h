// What both executors do with a job: check it, and call the job function.
#pragma once

#include <cstddef>
#include <string>

#include "harness/os/result.h"
#include "harness/worker/executor.h"

namespace crashworthy {

// "item 7 part 0"; "part 0" of kNoItem.
std::string job_name(std::uint64_t item, std::uint32_t part);

// Executor::check(): `most` bytes of output are what `option` allows.
Result<void> check_job(const Job& job, std::size_t most, const std::string& option);

// Calls the function between the probe's kStarted and kDone. What it throws becomes a failure
// (kThrew), as does what no result can carry (kTooLarge).
JobOutput run_job(const JobFunction& function, const Job& job, const JobContext& context,
                  const Probe& probe);

}  // namespace crashworthy
