#include "harness/worker/run_job.h"

#include <string>

namespace crashworthy {

JobOutput run_job(const JobFunction& function, const Job& job, const JobContext& context,
                  const Probe& probe) {
  probe.emit(ProbeEvent::kStarted, context.who, job.item, job.part, context.attempt);
  JobOutput output = function(job, context);
  if (output.bytes.size() > kMaxPayload) {
    output.message = "the job returned " + std::to_string(output.bytes.size()) +
                     " bytes, more than the " + std::to_string(kMaxPayload) +
                     " that a result can carry";
    output.bytes.clear();
    output.failure = FailureReason::kTooLarge;
  }
  probe.emit(ProbeEvent::kDone, context.who, job.item, job.part, context.attempt,
             output.failure ? static_cast<std::int64_t>(*output.failure) : 0);
  return output;
}

}  // namespace crashworthy
