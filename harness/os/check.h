// CRASHWORTHY_CHECK: an invariant that stays on in release builds. A bug stops the program where it
// is seen.
#pragma once

#include <sstream>
#include <string>

namespace crashworthy {

// Prints the place, the condition and the values to stderr and aborts. Never returns.
[[noreturn]] void check_failed(const char* file, int line, const char* condition,
                               const std::string& values);

namespace internal {
template <typename... Values>
std::string check_values(const Values&... values) {
  std::ostringstream out;
  ((out << ' ' << values), ...);
  return out.str();
}
}  // namespace internal

}  // namespace crashworthy

// CRASHWORTHY_CHECK(condition, values...): the values are printed when the condition is false.
#define CRASHWORTHY_CHECK(condition, ...)                            \
  (static_cast<bool>(condition)                                      \
       ? static_cast<void>(0)                                        \
       : ::crashworthy::check_failed(__FILE__, __LINE__, #condition, \
                                     ::crashworthy::internal::check_values(__VA_ARGS__)))
