// An open-loop HTTP client: requests start when the plan says so, however the answers come.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

#include "harness/os/local_url.h"
#include "harness/os/result.h"
#include "harness/probe/probe.h"
#include "pipelines/each/settings.h"

namespace crashworthy::visit {

struct Plan {
  LocalUrl
      server;  // `target`: what is asked until it answers with success, before the first request.
  double rate = 10;  // Requests a second.
  std::chrono::nanoseconds request_timeout = std::chrono::seconds(5);
  std::chrono::nanoseconds ready_timeout = std::chrono::seconds(30);
};

struct Counts {
  std::size_t answered = 0;    // With success; the body is in place.
  std::size_t refused = 0;     // With an HTTP error, which the service says itself.
  std::size_t unanswered = 0;  // No connection, no whole answer, or none in time.
};

// Whether somebody listens there already: then whoever is started would not be asked.
bool is_taken(const LocalUrl& server);

// Asks for the ready target until it answers with success. kTimeout when it does not in time;
// kGone when `server_pidfd` becomes readable first (the server has ended), unless it is negative.
Result<void> wait_until_ready(const Plan& plan, int server_pidfd);

// Starts request i at its time, i / rate from now, whatever became of the others: Item::input is
// its target, and Item::output the file that gets the body of a successful answer, written beside
// and renamed. Tells the probe kTaken at the time that was planned, then kDelivered, or kFailed
// (kReported) for an HTTP error. Returns when all have ended. Fails when a body cannot be written.
Result<Counts> send_requests(const Plan& plan, const std::vector<each::Item>& requests,
                             const Probe& probe);

}  // namespace crashworthy::visit
