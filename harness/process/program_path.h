// Which files a command may mean, and why none of them could be executed.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "harness/os/result.h"

namespace crashworthy {

// The files to try for `name`, in order, as a shell does: `name` itself when it has a slash, else
// `name` in each directory of PATH in `environment` ("NAME=value"), the system's default where that
// has no PATH. Relative ones are relative to the command's working directory.
std::vector<std::string> program_candidates(const std::string& name,
                                            const std::vector<std::string>& environment);

// 0 when one of `candidates` may be executed, as far as can be seen without doing it; else what
// execve(2) would say. `directory` as below.
int look_for_executable(const std::vector<std::string>& candidates,
                        const std::filesystem::path& directory);

// The error of a command none of whose candidates could be executed; `number` is what execve(2)
// said. `directory` is the command's working directory, empty for ours.
Error explain_unexecutable(const std::string& name, const std::vector<std::string>& candidates,
                           const std::filesystem::path& directory, int number);

}  // namespace crashworthy
