// `crashworthy inject`: any command under faults, as the user would have started it.
//
// It has the user's working directory, environment, descriptors and limits; what it writes goes
// where it always goes. Only its record lies elsewhere.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "faults/fault_spec.h"
#include "harness/experiment/injected_subject.h"

namespace crashworthy {

struct InjectOptions {
  std::vector<std::string> command;
  std::vector<FaultSpec> faults;  // At least one.
  std::uint64_t seed = 0;
  bool disarmed = false;
  std::optional<std::chrono::nanoseconds> timeout;
  std::filesystem::path out;  // Of the record; empty: default_record_directory().

  // Of a repetition. Else our own directory and environment, and triggers drawn from the seed.
  std::filesystem::path directory;
  std::optional<std::vector<std::string>> environment;
  std::vector<Trigger> triggers;
  Schedule schedule;
};

struct InjectResult {
  std::vector<nlohmann::json> injections;  // "injection_result" of each, with its "proof".
  std::string ended;                       // "exited with 0", "killed by SIGKILL", ...
  std::optional<int> exit_code;            // Of the command.
  std::optional<int> signal;
  std::int64_t duration_ns = 0;
  std::string containment;
  bool timed_out = false;
  int interrupted_by = 0;  // The signal to us that ended it; else 0.
  std::filesystem::path record;
  bool all_confirmed = false;
};

// Runs it to its end. Nothing of it is left then, however that came about. Fails for what is the
// user's trouble (kUsage: the command cannot be started, the record cannot be made) or ours.
Result<InjectResult> inject(const InjectOptions& options);

// $XDG_STATE_HOME/crashworthy/FAMILY, else ~/.local/state/crashworthy/FAMILY.
Result<std::filesystem::path> state_directory(const std::string& family);
// "process.kill", or "process.kill+4" for five.
std::string record_name(const std::vector<FaultSpec>& faults);
// A new directory for a record, or an empty one at `out` if it is given; for its owner only.
struct RecordDirectory {
  std::filesystem::path path;  // Absolute.
  bool made = false;
};
Result<RecordDirectory> make_record_directory(const std::filesystem::path& out,
                                              const std::string& family, const std::string& name);

}  // namespace crashworthy
