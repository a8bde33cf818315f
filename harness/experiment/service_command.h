// Subjects that never end by themselves: crashworthy-visit starts the service, waits until it is
// ready, sends it requests at a fixed rate, and ends it. Each request is an item; its output is the
// answer's body.
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "harness/experiment/experiment.h"
#include "harness/experiment/subject_setup.h"

namespace crashworthy {

// The field `service` of a subject with a command.
Result<ServiceSpec> read_service(const nlohmann::json& object, const std::string& pointer);

// The items, and the list of requests that is the client's.
Result<void> prepare_requests(PreparedSubject& prepared, const std::filesystem::path& work);

// What stands before the words of the service.
std::vector<std::string> visit_arguments(const PreparedSubject& subject);

// Of all answers.
inline constexpr const char* kAnswers = "answers/*";

}  // namespace crashworthy
