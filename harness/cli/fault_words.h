// The fault that words of a command line stand for.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "harness/os/result.h"

namespace crashworthy {

// As an experiment file would say it. `fault`: NAME[@POINT]; the others: KEY=VALUE words.
Result<nlohmann::json> fault_document(const std::string& fault,
                                      const std::vector<std::string>& victim,
                                      const std::vector<std::string>& when,
                                      const std::vector<std::string>& set);

}  // namespace crashworthy
