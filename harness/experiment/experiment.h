// The experiment file: what is run, how (arms), under which faults, and what is expected
// (docs/experiment-file.md).
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "faults/fault_spec.h"
#include "harness/os/result.h"

namespace crashworthy {

enum class Supervision {
  kNone,
  kIsolate,    // Worker processes that are not replaced. `tiles` only.
  kRestart,    // The whole command, restarted by `crashworthy supervise` until it completes.
  kSupervised  // Worker processes that are replaced, and their items given out again: `tiles`, and
               // commands by items.
};

// A program, or a module of Debian's Python, without which an arm cannot run.
struct Need {
  std::string program;  // In PATH; with a '/', relative to the subject's directory.
  std::string python;
  std::string package;  // Of Debian, that has it.
};

struct ArmSpec {
  std::string name;
  Supervision supervision = Supervision::kNone;
  int workers = 2;
  int spares = 1;
  int intensity = 100;  // Of kRestart and kSupervised: restarts allowed within `period`.
  std::string period = "10s";
  std::vector<std::string> command;  // Instead of the subject's words; none: those.
  std::vector<Need> needs;
  std::vector<std::string> arguments;  // Further words of the command line in this arm.
};

struct Batcher {
  std::string name;
  int concurrency = 1;
  int size = 10;
};

// Where the images of `tiles` come from.
struct InputSpec {
  enum class Kind { kSet, kPath, kGenerate, kPpm } kind = Kind::kSet;
  std::string set = "photographs";
  std::filesystem::path path;  // A directory or one file; absolute.
  int count = 24;              // kGenerate
  std::uint64_t seed = 1;      // kGenerate, kPpm
  std::int64_t width = 0;      // kPpm
  std::int64_t height = 0;
  int limit = 0;  // At most so many images, in order; 0: all.
};

// A subject that never ends by itself, and the requests that it is sent.
struct ServiceSpec {
  std::string ready;                 // A URL that answers with success once it is ready.
  std::vector<std::string> targets;  // Paths, asked for in turn.
  int requests = 100;
  double rate = 10;  // Requests a second, however the answers come.
  std::string request_timeout = "5s";
  std::string ready_timeout = "30s";
  std::string end = "TERM";  // The signal that ends it; SIGKILL after `grace`.
  std::string grace = "5s";
};

struct SubjectSpec {
  std::string pipeline;  // "tiles" or "canary"; empty for a command.
  // tiles
  InputSpec input;
  std::string tile = "256";  // A side in pixels, or "WxH".
  std::string operations = "blur:5,canny:60:150";
  std::string format = "png";
  int producers = 1;
  int max_demand = 10;
  std::vector<Batcher> batchers{{"default", 1, 4}};
  double slow_percent = 0;
  bool inexact = false;
  // command
  std::vector<std::string> command;
  std::vector<std::string>
      inputs;  // Globs, relative to `directory`: copied into each trial's own directory.
  std::vector<std::string>
      outputs;  // Globs, relative to the trial's directory; none: every file the command leaves.
  std::filesystem::path directory;  // Where the command line was written.
  std::map<std::string, std::string> environment;
  std::vector<Need> needs;  // Of every arm.
  // command, by items
  std::vector<std::string>
      items;  // Globs as of `inputs`: each file is one item. None: not by items.
  std::string output_name = "out/{name}";  // Of an item's output.
  bool lines = false;                      // Long-lived workers that speak lines.
  std::string item_deadline = "30s";       // Of one execution, in a supervised arm; "0s": none.
  std::string heartbeat = "0s";
  std::optional<ServiceSpec> service;  // command
  bool by_items() const { return !items.empty(); }
};

// What happens to the subject in one trial: a fault, or several, each at its own moment.
struct FaultCase {
  std::string name;
  std::vector<FaultSpec> faults;
};

struct Experiment {
  std::string name;
  std::filesystem::path directory;  // What its relative paths are relative to.
  SubjectSpec subject;
  std::vector<ArmSpec> arms;
  std::vector<FaultCase> faults;  // Without the control "none", which every plan has.
  int blocks = 10;
  std::optional<std::uint64_t> seed;
  std::optional<std::chrono::nanoseconds>
      timeout;  // Of one trial; default: 20 times the golden run, at least 10 s.
  // Of the file system of its directory; default: half of what is free when it begins.
  std::optional<std::uint64_t> disk_bytes;
  // How long what is left of a command may go on when its main process has ended.
  std::chrono::nanoseconds linger{std::chrono::seconds(10)};
  // Silent and idle for at least so long, a subject is taken to hang.
  std::chrono::nanoseconds hang_after{std::chrono::seconds(5)};
  bool rerun = false;  // After each trial with a fault the command is run again, without one.
};

// Reads and checks everything that can be checked without running. `directory` is what relative
// paths are relative to. Messages begin with the JSON pointer of the place.
Result<Experiment> parse_experiment(const nlohmann::json& document,
                                    const std::filesystem::path& directory);

// The same from a file; messages begin with its name.
struct ExperimentFile {
  Experiment experiment;
  std::string text;  // As written: a run keeps a copy.
};
Result<ExperimentFile> read_experiment_file(const std::filesystem::path& path);

const char* supervision_name(Supervision supervision);

}  // namespace crashworthy
