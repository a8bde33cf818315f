// What crashworthy-each is told to do.
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace crashworthy::each {

struct Item {
  std::string input;   // Path, as the command is told it.
  std::string output;  // Path of its output.
};

struct Settings {
  std::vector<std::string> command;  // With `{}` and `{out}`, or of a worker that speaks lines.
  bool lines = false;
  // false: each item is tried once, and a worker that ends is not replaced.
  bool supervised = false;
  int workers = 2;
  // What follows is of supervised ones. How long one execution may take (0: however long), and a
  // worker that speaks lines may be silent during it.
  std::chrono::nanoseconds deadline = std::chrono::seconds(30);
  std::chrono::nanoseconds heartbeat{0};
  // An item is quarantined after so many deaths of its own making.
  int max_deaths = 2;
  // It has failed after so many errors that its command or worker reported,
  int max_failures = 3;
  // or so many executions, whatever ended them.
  int max_attempts = 10;
  // More deaths than this from outside of an item, within `period`, and it gives up.
  int intensity = 100;
  std::chrono::nanoseconds period = std::chrono::seconds(10);
};

}  // namespace crashworthy::each
