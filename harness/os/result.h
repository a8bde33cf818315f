// Expected failures as values: Result<T> holds a T or an Error that says what failed, to what, why,
// and what to try.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "harness/os/check.h"

namespace crashworthy {

enum class ErrorKind {
  kUsage,        // The user asked for something wrong: exit code 64.
  kMissing,      // A capability or package that this machine lacks: exit code 77.
  kSystem,       // A system call failed; `sys_errno` says why.
  kCorrupt,      // Data on disk or on the wire is not what its format says.
  kGone,         // The process, file or peer is no longer there.
  kTimeout,      // A stated bound passed.
  kNoData,       // Nothing was measured that could be judged: exit code 3.
  kIncomparable  // Two results that may not be compared: exit code 4.
};

struct Error {
  ErrorKind kind = ErrorKind::kSystem;
  int sys_errno = 0;
  std::string message;  // What could not be done, to what, and why.
  std::string hint;     // What to try; empty when nothing is known to help.

  // The same error, with what the caller was doing in front.
  Error with_context(const std::string& context) &&;
  Error with_context(const std::string& context) const&;
};

// An Error of kind kSystem whose message ends in the text of `number` (an errno value).
Error system_error(const std::string& what, int number);
Error usage_error(std::string message, std::string hint = {});
Error corrupt_error(std::string message);

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value)
      : state_(std::move(value)) {}  // NOLINT(google-explicit-constructor): reads as a T
  Result(Error error)
      : state_(std::move(error)) {}  // NOLINT(google-explicit-constructor): reads as an Error

  explicit operator bool() const { return ok(); }
  bool ok() const { return std::holds_alternative<T>(state_); }

  T& value() & {
    CRASHWORTHY_CHECK(ok(), error_text());
    return std::get<T>(state_);
  }
  const T& value() const& {
    CRASHWORTHY_CHECK(ok(), error_text());
    return std::get<T>(state_);
  }
  T&& value() && {
    CRASHWORTHY_CHECK(ok(), error_text());
    return std::get<T>(std::move(state_));
  }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }

  const Error& error() const {
    CRASHWORTHY_CHECK(!ok());
    return std::get<Error>(state_);
  }

 private:
  std::string error_text() const { return ok() ? std::string() : std::get<Error>(state_).message; }
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error)
      : error_(std::move(error)) {}  // NOLINT(google-explicit-constructor): reads as an Error

  explicit operator bool() const { return ok(); }
  bool ok() const { return !error_.has_value(); }
  const Error& error() const {
    CRASHWORTHY_CHECK(error_.has_value());
    return *error_;
  }

 private:
  std::optional<Error> error_;
};

}  // namespace crashworthy
