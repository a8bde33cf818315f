// How a tree executes a function: as the program itself, told by its environment which function it
// is to run. Between process_backend.cc, which starts such a process, and run_child_function().
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "harness/os/result.h"
#include "harness/os/unique_fd.h"
#include "harness/supervision/spec.h"

namespace crashworthy {

// The name of the function, and the number of the descriptor with its argument.
inline constexpr const char* kFunctionVariable = "CRASHWORTHY_FUNCTION";
inline constexpr const char* kArgumentVariable = "CRASHWORTHY_FUNCTION_ARGUMENT";

struct FunctionCommand {
  std::filesystem::path program;       // The file of this very program.
  std::string name;                    // argv[0]: ours.
  std::vector<std::string> variables;  // "NAME=value", for the child's environment.
  UniqueFd argument;                   // Of memory that nobody can change any more.
  int argument_number = 0;             // Its number in the child.
};

// What to execute for `spec`, any number of times. Fails (kSystem) when there is no memory for the
// argument.
Result<FunctionCommand> make_function_command(const ChildSpec& spec);

}  // namespace crashworthy
