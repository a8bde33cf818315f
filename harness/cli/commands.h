// The commands of the program, one function each; each returns the exit code.
#pragma once

#include <chrono>
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
  bool rerun = false;      // After each trial with a fault the command is run again.
  bool supervise = false;  // Add the arm `restart`; by items, `supervised`.
  std::string fault;
  std::vector<std::string> victim, when, set;  // KEY=VALUE
  std::vector<std::string> inputs, outputs;    // Globs
  // By items.
  std::vector<std::string> items;  // Globs
  std::optional<int> workers;
  std::string output_name, item_deadline, protocol, heartbeat;
  std::vector<std::string> service;  // KEY=VALUE
  std::string timeout;               // Of a trial.
};

struct InjectArguments {
  std::string fault;
  std::string faults_file;
  std::vector<std::string> victim, when, set;  // KEY=VALUE
  std::vector<std::string> command;
  std::optional<std::uint64_t> seed;
  std::string out;
  std::string timeout;
  bool disarm = false;
  bool json = false;
  bool quiet = false;
};

struct ReplayArguments {
  std::string directory;
  std::optional<int> trial;
  std::string out;
  bool json = false;
  bool quiet = false;
};

struct SuperviseArguments {
  std::string file;
  std::string events;
  std::string log;
  std::string socket;
  std::optional<std::uint64_t> seed;
  bool quiet = false;
  bool check = false;
};

struct CtlArguments {
  std::string socket;
  std::string command;
  std::string id;
  std::optional<std::chrono::nanoseconds> timeout;
  bool json = false;
};

int run_command(const RunArguments& arguments);
int inject_command(const InjectArguments& arguments);
int replay_command(const ReplayArguments& arguments);
int recover_command(const std::string& directory, bool json);
int report_command(const std::string& directory, bool dump, bool json);
int compare_command(const std::string& base, const std::string& contender, bool json,
                    bool markdown);
int faults_command(const std::string& name, bool json, bool markdown);
int doctor_command(bool json);
int supervise_command(const SuperviseArguments& arguments);
int ctl_command(CtlArguments arguments);

// Prints what could not be done, why, and what to try; returns the exit code of its kind.
int fail(const Error& error);

// Ends as the signal that stopped us would have, so that a calling shell sees it.
void end_by_signal(int signal);

// Colour on stdout: a terminal, and no NO_COLOR.
bool use_colour();

}  // namespace crashworthy
