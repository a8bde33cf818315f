// URLs of this machine: nobody else's servers are asked, let alone loaded.
#pragma once

#include <string>

#include "harness/os/result.h"

namespace crashworthy {

// http://HOST:PORT/TARGET, where HOST is 127.0.0.1, [::1] or localhost.
struct LocalUrl {
  std::string host;    // An address, without brackets.
  std::string port;    // 1 to 65535
  std::string target;  // Begins with a slash.
};

// kUsage for what is no such URL.
Result<LocalUrl> parse_local_url(const std::string& text);

}  // namespace crashworthy
