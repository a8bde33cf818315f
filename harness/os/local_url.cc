#include "harness/os/local_url.h"

#include <algorithm>
#include <cstdlib>

namespace crashworthy {

Result<LocalUrl> parse_local_url(const std::string& text) {
  const auto wrong = [&text](const std::string& why) {
    return usage_error("'" + text + "' " + why, "write it as http://127.0.0.1:8000/path");
  };
  const std::string scheme = "http://";
  if (!text.starts_with(scheme)) return wrong("does not begin with http://");
  const std::size_t slash = std::min(text.find('/', scheme.size()), text.size());
  const std::string place = text.substr(scheme.size(), slash - scheme.size());
  const std::size_t colon = place.rfind(':');
  if (colon == std::string::npos) return wrong("names no port");
  LocalUrl url{place.substr(0, colon), place.substr(colon + 1),
               slash == text.size() ? "/" : text.substr(slash)};
  if (url.host == "localhost") url.host = "127.0.0.1";
  if (url.host == "[::1]") url.host = "::1";
  if (url.host != "127.0.0.1" && url.host != "::1")
    return wrong("is not on this machine: only 127.0.0.1, [::1] and localhost are visited");
  char* end = nullptr;
  const long port = std::strtol(url.port.c_str(), &end, 10);
  if (url.port.empty() || *end != '\0' || port < 1 || port > 65535)
    return wrong("has no valid port");
  if (url.target.find_first_of(" \t\r\n") != std::string::npos) return wrong("has a blank in it");
  return url;
}

}  // namespace crashworthy
