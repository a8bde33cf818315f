// What the processes that we start see of our own environment: an allow-list, so that trials are
// alike for all users.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace crashworthy {

// PATH, the locale, the time zone, the library path and the sanitizers' options, as far as they are
// set; PATH always.
std::map<std::string, std::string> inherited_variables();

// Makes them in our own environment what they were in a recorded one.
void adopt_variables(const std::vector<std::string>& recorded);

// "NAME=value" words.
std::vector<std::string> to_environment(const std::map<std::string, std::string>& variables);

}  // namespace crashworthy
