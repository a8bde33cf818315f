#include "harness/worker/run_job.h"

#include <cxxabi.h>

#include <exception>
#include <utility>

namespace crashworthy {
namespace {

JobOutput failed(FailureReason reason, std::string message) {
  JobOutput output;
  output.failure = reason;
  output.message = std::move(message);
  return output;
}

JobOutput call(const JobFunction& function, const Job& job, const JobContext& context) {
  try {
    return function(job, context);
  } catch (const abi::__forced_unwind&) {
    throw;  // pthread_exit(), which must not be stopped.
  } catch (const std::exception& thrown) {
    return failed(FailureReason::kThrew, std::string("it threw: ") + thrown.what());
  } catch (...) {
    return failed(FailureReason::kThrew, "it threw something that is no std::exception");
  }
}

}  // namespace

std::string job_name(std::uint64_t item, std::uint32_t part) {
  const std::string text = "part " + std::to_string(part);
  return item == kNoItem ? text : "item " + std::to_string(item) + " " + text;
}

Result<void> check_job(const Job& job, std::size_t most, const std::string& option) {
  const std::string name = job_name(job.item, job.part);
  if (job.arguments.size() > kMaxPayload) {
    return usage_error("the job of " + name + " has " + std::to_string(job.arguments.size()) +
                           " bytes of arguments, more than the " + std::to_string(kMaxPayload) +
                           " that a job can carry",
                       "put them into a frame (allocate_frame(), Job::inputs), and its FrameRef "
                       "into the arguments");
  }
  if (job.output_bytes > most) {
    return usage_error("the job of " + name + " asks for an output of " +
                           std::to_string(job.output_bytes) + " bytes, more than the " +
                           std::to_string(most) + " of " + option,
                       "make the executor with a larger " + option);
  }
  if (job.deadline.count() < 0) return usage_error("the deadline of " + name + " is negative");
  return {};
}

JobOutput run_job(const JobFunction& function, const Job& job, const JobContext& context,
                  const Probe& probe) {
  probe.emit(ProbeEvent::kStarted, context.who, job.item, job.part, context.attempt);
  JobOutput output = call(function, job, context);
  if (output.bytes.size() > kMaxPayload) {
    output = failed(FailureReason::kTooLarge,
                    "the job returned " + std::to_string(output.bytes.size()) +
                        " bytes, more than the " + std::to_string(kMaxPayload) +
                        " that a result can carry");
  } else if (output.frame_bytes > context.output.size()) {
    output = failed(FailureReason::kTooLarge, "the job says " + std::to_string(output.frame_bytes) +
                                                  " bytes of a frame of " +
                                                  std::to_string(context.output.size()));
  }
  probe.emit(ProbeEvent::kDone, context.who, job.item, job.part, context.attempt,
             output.failure ? static_cast<std::int64_t>(*output.failure) : 0);
  return output;
}

}  // namespace crashworthy
