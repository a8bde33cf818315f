// Functions as children: a program registers them by name, and a tree runs each in a process of its
// own, which is the program itself, executed again (from its file: where that is replaced while the
// program runs, later incarnations are the new one).
#pragma once

#include <functional>
#include <optional>
#include <string>

namespace crashworthy {

// What the process does; returns its exit code. `argument` is ChildSpec::argument.
using ChildFunction = std::function<int(const std::string& argument)>;

// Makes `function` known as `name`; registering a name twice stops the program. Before
// run_child_function(), from one thread.
void register_function(const std::string& name, ChildFunction function);
bool is_registered(const std::string& name);

// To be called at the start of main(), after the registrations: in a process that a tree has
// started for a function, runs it and returns its exit code, which main() must return. Empty in
// every other process.
std::optional<int> run_child_function();

}  // namespace crashworthy
