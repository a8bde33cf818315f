// What the programs that run a command have in common on their command lines.
#pragma once

#include <chrono>
#include <initializer_list>
#include <string>
#include <vector>

#include "harness/os/result.h"

namespace crashworthy::each {

// The words after --: the command, whatever it looks like. `argc` counts those before it
// afterwards.
std::vector<std::string> take_command(int& argc, char** argv);

struct DurationOption {
  const char* name;  // "--deadline"
  const std::string* text;
  std::chrono::nanoseconds* value;  // Set here.
};
// Fails with the name of the first that is no duration.
Result<void> read_durations(std::initializer_list<DurationOption> options);

// Says on stderr why `program` ends; returns `code`.
int fail(const char* program, int code, const Error& error);

}  // namespace crashworthy::each
