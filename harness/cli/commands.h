// The commands of the program, one function each; each returns the exit code.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "harness/os/result.h"

namespace crashworthy {

struct RunArguments {
  std::vector<std::string> words;  // One experiment file, or a command.
  std::optional<int> blocks;
  std::optional<std::uint64_t> seed;
  std::string out;
  bool json = false;
  bool quiet = false;
  bool disarm = false;
  bool supervise = false;  // Add the arm `restart`.
  std::string fault;
  std::vector<std::string> victim, when, set;  // KEY=VALUE
  std::vector<std::string> inputs, outputs;    // Globs
};

int run_command(const RunArguments& arguments);
int report_command(const std::string& directory, bool dump, bool json);
int compare_command(const std::string& base, const std::string& contender, bool json,
                    bool markdown);
int faults_command(const std::string& name, bool json);
int doctor_command(bool json);

// Prints what could not be done, why, and what to try; returns the exit code of its kind.
int fail(const Error& error);

// Colour on stdout: a terminal, and no NO_COLOR.
bool use_colour();

}  // namespace crashworthy
