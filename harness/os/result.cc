#include "harness/os/result.h"

#include <cstring>

namespace crashworthy {

Error Error::with_context(const std::string& context) && {
  message = context + ": " + message;
  return std::move(*this);
}

Error Error::with_context(const std::string& context) const& {
  return Error(*this).with_context(context);
}

Error system_error(const std::string& what, int number) {
  return Error{ErrorKind::kSystem, number, what + ": " + std::strerror(number), {}};
}

Error usage_error(std::string message, std::string hint) {
  return Error{ErrorKind::kUsage, 0, std::move(message), std::move(hint)};
}

Error corrupt_error(std::string message) {
  return Error{ErrorKind::kCorrupt, 0, std::move(message), {}};
}

}  // namespace crashworthy
