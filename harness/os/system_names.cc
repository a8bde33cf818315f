#include "harness/os/system_names.h"

#include <csignal>
#include <cstring>

namespace crashworthy {
namespace {

constexpr int kMostErrno = 133;  // EHWPOISON

bool is_number(const std::string& text) {
  return !text.empty() && text.size() < 4 &&
         text.find_first_not_of("0123456789") == std::string::npos;
}

}  // namespace

Result<int> signal_by_name(const std::string& name) {
  if (is_number(name) && std::stoi(name) >= 1 && std::stoi(name) < NSIG) return std::stoi(name);
  const std::string bare = name.starts_with("SIG") ? name.substr(3) : name;
  for (int signal = 1; signal < NSIG; ++signal) {
    const char* known = ::sigabbrev_np(signal);
    if (known != nullptr && bare == known) return signal;
  }
  return usage_error("'" + name + "' is no signal", "write a name such as SIGTERM");
}

Result<int> errno_by_name(const std::string& name) {
  for (int number = 1; number <= kMostErrno; ++number) {
    const char* known = ::strerrorname_np(number);
    if (known != nullptr && name == known) return number;
  }
  return usage_error("'" + name + "' is no errno value", "write a name such as EIO");
}

std::string errno_name(int number) {
  const char* known = ::strerrorname_np(number);
  return known == nullptr ? "errno " + std::to_string(number) : known;
}

}  // namespace crashworthy
