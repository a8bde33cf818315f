// From an experiment's subject to a command line: inputs, the list of items, a trial's own
// directory and environment.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "harness/experiment/checker.h"
#include "harness/experiment/experiment.h"

namespace crashworthy {

// What is the same for all trials of a run.
struct PreparedSubject {
  SubjectSpec spec;
  std::filesystem::path program;     // Of a pipeline of ours.
  std::filesystem::path dispatcher;  // Of a command by items, or a service: who runs it.
  std::vector<std::string>
      input_files;  // tiles: absolute paths, one an item. Commands: relative paths to copy.
  std::vector<std::string> item_files;  // Commands by items: those of them that are items.
  std::optional<std::vector<Item>>
      items;  // The harness's own list; empty: the golden run's outputs are the items.
  std::filesystem::path list_file;  // tiles, by items and services: their --list.
  std::vector<std::string> notes;   // What the user should know: "no photographs found, ...".
};

// Finds the program and the inputs, generates those that must be. `work`: a directory of the run
// that ends with it.
Result<PreparedSubject> prepare_subject(const SubjectSpec& spec, const std::filesystem::path& work);

// What a trial starts and where its outputs are.
struct TrialSetup {
  std::vector<std::string> argv;
  // What stands before the command, and is never restarted with it: the client of a service.
  std::vector<std::string> client;
  std::vector<std::string> environment;
  std::filesystem::path directory;  // Working directory.
  std::filesystem::path output_root;
  std::filesystem::path output;  // The directory of the outputs alone; empty: there is none.
  // Files of this trial alone: copies, and links to originals. Empty where the subject has none.
  std::vector<std::filesystem::path> inputs;
  std::vector<std::string> patterns;  // Of the outputs, relative to the root; none: all.
  std::vector<int>
      complete_codes;  // Exit codes with which the subject ends when it has run to its end.
  // Supervision::kRestart: where `crashworthy supervise` writes what happens to the command.
  std::filesystem::path events;
};

// Makes the trial's own directory below `scratch` and fills it: inputs, empty output directories,
// TMPDIR, HOME. `own_inputs`: a pipeline, too, gets an input set of its own.
Result<TrialSetup> set_up_trial(const PreparedSubject& subject, const ArmSpec& arm,
                                const std::filesystem::path& scratch, bool own_inputs);

// Puts the command of a Supervision::kRestart under `crashworthy supervise`, which restarts it
// until it completes and knows nothing of items. `descriptors`: the numbers that the command must
// have.
Result<void> put_under_restart(const ArmSpec& arm, const std::filesystem::path& scratch,
                               const std::vector<int>& descriptors, TrialSetup& setup);

}  // namespace crashworthy
