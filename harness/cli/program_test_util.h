// Starting the real `crashworthy` from a test, and looking for what it left behind.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace crashworthy::testing {

struct Finished {
  int exit_code = -1;  // -1: killed by a signal.
  std::string out;
  std::string err;
};

// A temporary directory that anybody may use; removed by the destructor.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// The program under test.
std::string crashworthy_program();

// Runs `argv` in `directory` to its end, at most `seconds`. `uid`: as that user (only root can).
Finished run_program(const std::vector<std::string>& argv, const std::filesystem::path& directory,
                     int seconds = 120, std::optional<uid_t> uid = std::nullopt);

// Starts it and returns its pid; output goes to `out` in `directory`.
pid_t start_program(const std::vector<std::string>& argv, const std::filesystem::path& directory,
                    std::optional<uid_t> uid = std::nullopt);

// A process of the machine, proof against reuse of its pid.
struct ProcessId {
  pid_t pid = 0;
  std::string start_time;
  std::string command;
  bool operator==(const ProcessId&) const = default;
};
// All live processes below `root`, without it. Zombies do not count.
std::vector<ProcessId> descendants_of(pid_t root);
bool is_alive(const ProcessId& process);
// Processes whose command line, environment or working directory names `text`.
std::vector<ProcessId> processes_naming(const std::string& text);

}  // namespace crashworthy::testing
