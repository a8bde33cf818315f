// What is said of the injections into a command: on stderr, when it has ended, as stdout is the
// command's.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "harness/experiment/inject.h"

namespace crashworthy {

// "process.kill: confirmed; proof: status killed by SIGKILL; victim: main (pid 2)"
std::string injection_line(const nlohmann::json& injection);
// A line for each injection and the record's place; or all of it as one line of JSON.
void tell_injections(const InjectOptions& options, const InjectResult& result, bool json,
                     bool quiet);
nlohmann::json injections_json(const InjectOptions& options, const InjectResult& result);
// As fail(); what this machine lacks is a skipped injection here.
int fail_injection(const Error& error);

}  // namespace crashworthy
