// Subjects by items: the harness holds the list of items, and crashworthy-each runs a command for
// each of them, or gives them to workers that speak lines.
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "harness/experiment/experiment.h"
#include "harness/experiment/subject_setup.h"

namespace crashworthy {

// What of a subject with a `command` only one by items has. Reads `items` and the fields that
// belong to it, and checks the command's words against them.
Result<void> read_item_fields(const nlohmann::json& object, const std::string& pointer,
                              SubjectSpec& subject);

// Whether an arm fits a subject by items; `pointer` is the arm's.
Result<void> check_item_arm(const nlohmann::json& object, const std::string& pointer,
                            const ArmSpec& arm);

// The globs of all outputs: those that were named, that of the items' outputs, and that of a
// service's answers.
std::vector<std::string> output_patterns(const SubjectSpec& subject);

// Names the output of each of `found`, which are the files of its items, and writes the list.
Result<void> prepare_items(PreparedSubject& prepared, const std::vector<std::string>& found,
                           const std::filesystem::path& work);

// The command line that executes the prepared items in this arm; the words of the command follow.
std::vector<std::string> item_arguments(const PreparedSubject& subject, const ArmSpec& arm);

}  // namespace crashworthy
