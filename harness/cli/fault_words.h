// What words of a command line stand for.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "harness/os/result.h"

namespace crashworthy {

// "KEY=VALUE" words into an object; values that are JSON (numbers, true, [1, 5]) are taken as such,
// others as strings. `option` and `hint` are for messages.
Result<nlohmann::json> key_values(const std::vector<std::string>& words, const char* option,
                                  const char* hint);

// A fault as an experiment file would say it. `fault`: NAME[@POINT]; the others: KEY=VALUE words.
Result<nlohmann::json> fault_document(const std::string& fault,
                                      const std::vector<std::string>& victim,
                                      const std::vector<std::string>& when,
                                      const std::vector<std::string>& set);

}  // namespace crashworthy
