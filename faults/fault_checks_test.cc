// Settings that make no sense are refused when they are read, with what would do.
#include "faults/fault_checks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace crashworthy {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

struct Refused {
  const char* fault;
  const char* place;
  const char* says;
};

class Refusal : public ::testing::TestWithParam<Refused> {};

TEST_P(Refusal, NamesThePlaceAndWhatWouldDo) {
  const auto fault = parse_fault(json::parse(GetParam().fault), "/faults/0");
  ASSERT_FALSE(fault) << GetParam().fault;
  EXPECT_EQ(fault.error().kind, ErrorKind::kUsage);
  const std::string said = fault.error().message + " | " + fault.error().hint;
  EXPECT_THAT(said, HasSubstr(std::string("/faults/0") + GetParam().place + ":"));
  EXPECT_THAT(said, HasSubstr(GetParam().says));
}

INSTANTIATE_TEST_SUITE_P(
    Settings, Refusal,
    ::testing::Values(
        Refused{R"({"fault": "process.crashloop", "set": {"times": 0}})", "/set/times",
                "from 1 to 10000, not 0"},
        Refused{R"({"fault": "process.fail_start", "set": {"times": 0}})", "/set/times",
                "at least 1, not 0"},
        Refused{R"({"fault": "process.fail_start", "set": {"code": 256}})", "/set/code",
                "from 0 to 255"},
        Refused{R"({"fault": "process.exit_early", "set": {"code": 300}})", "/set/code",
                "from 0 to 255"},
        Refused{R"({"fault": "process.slow_start", "set": {"delay": "0s"}})", "/set/delay",
                "longer than 0"},
        Refused{R"({"fault": "process.hang", "set": {"duration": "0ms"}})", "/set/duration",
                "longer than 0"},
        Refused{R"({"fault": "native.slow", "set": {"delay": "0s"}})", "/set/delay",
                "longer than 0"},
        Refused{R"({"fault": "native.throw@a.b", "set": {"exception": "cv"}})", "/set/exception",
                "one of: program, std"},
        Refused{R"({"fault": "resource.cpu_steal", "set": {"workers": 65}})", "/set/workers",
                "from 1 to 64, not 65"},
        Refused{R"({"fault": "resource.cpu_quota", "set": {"share": 100}})", "/set/share",
                "from 1 to 99"},
        Refused{R"({"fault": "resource.cpu_quota", "set": {"share": 5, "duration": "0s"}})",
                "/set/duration", "longer than 0"},
        Refused{R"({"fault": "resource.shm_full", "set": {"size": 0}})", "/set/size", "at least 1"},
        Refused{R"({"fault": "io.short", "set": {"call": "read", "bytes": 0}})", "/set/bytes",
                "from 1 to 67108864 bytes"},
        Refused{R"({"fault": "io.short", "set": {"call": "read", "bytes": "65M"}})", "/set/bytes",
                "from 1 to 67108864 bytes"},
        Refused{R"({"fault": "io.short", "set": {"call": "read,openat"}})", "/set/call",
                "pwritev2"},
        Refused{R"({"fault": "io.errno", "set": {"call": "getrandom", "path": "*"}})", "/set/path",
                "'getrandom' names no file"},
        Refused{R"({"fault": "io.delay", "set": {"call": "read", "delay": "0us"}})", "/set/delay",
                "longer than 0"},
        Refused{R"({"fault": "ipc.drop", "set": {"stream": "stdout", "bytes": 0}})", "/set/bytes",
                "at least 1 bytes"},
        Refused{R"({"fault": "ipc.corrupt", "set": {"stream": "stdout", "bits": 0}})", "/set/bits",
                "from 1 to 1000000"},
        Refused{R"({"fault": "ipc.stall", "set": {"stream": "stdout", "duration": "0s"}})",
                "/set/duration", "longer than 0"},
        Refused{R"({"fault": "ipc.close"})", "/set", "--set stream=stdout"},
        Refused{R"({"fault": "ipc.close", "set": {"stream": "stdin", "socket": "x"}})", "/set",
                "either 'stream' or"},
        Refused{R"({"fault": "ipc.close", "set": {"socket": "x"}})", "/set", "'upstream'"},
        Refused{R"({"fault": "ipc.close", "set": {"stream": "stdot"}})", "/set/stream",
                "stdin, stdout, stderr"},
        Refused{
            R"({"fault": "ipc.close", "set": {"socket": "x", "upstream": "y", "direction": "up"}})",
            "/set/direction", "forth, back"},
        Refused{R"({"fault": "input.truncate", "set": {"keep": "100%"}})", "/set/keep", "99%"},
        Refused{R"({"fault": "input.bitflip", "set": {"bits": 0}})", "/set/bits", "at least 1"},
        Refused{R"({"fault": "input.empty", "set": {"count": 0}})", "/set/count", "at least 1"},
        Refused{R"({"fault": "input.late", "set": {"delay": "0s"}})", "/set/delay",
                "longer than 0"}));

INSTANTIATE_TEST_SUITE_P(
    Victims, Refusal,
    ::testing::Values(
        Refused{R"({"fault": "process.kill", "victim": {"pick": "2"}})", "/victim/pick",
                "without quotation marks: 2"},
        Refused{R"({"fault": "process.kill", "victim": {"pick": 0}})", "/victim/pick", "from 1"},
        Refused{R"({"fault": "process.kill", "victim": {"pick": "oldes"}})", "/victim/pick",
                "'oldest'"},
        Refused{R"({"fault": "process.kill", "victim": {"child": 0}})", "/victim/child", "from 1"},
        Refused{R"({"fault": "process.kill", "victim": {"incarnation": 0}})", "/victim/incarnation",
                "from 1"},
        Refused{
            R"({"fault": "process.signal", "set": {"signal": "TSTP"}, "victim": {"holding_item": true}})",
            "/victim/holding_item", "SIGSTOP"}));

TEST(Settings, AtTheirBoundsTheyAreTaken) {
  for (
      const char* text :
      {R"({"fault": "process.crashloop", "set": {"times": 1}})",
       R"({"fault": "process.fail_start", "set": {"code": 255}})",
       R"({"fault": "process.hang", "set": {"duration": "1ns"}})",
       R"({"fault": "process.term", "set": {"grace": "0s"}})",
       R"({"fault": "io.short", "set": {"call": "read,pwritev2", "bytes": "64M"}})",
       R"({"fault": "io.short", "set": {"call": "read", "bytes": 1}})",
       R"({"fault": "resource.cpu_quota", "set": {"share": 99}})",
       R"({"fault": "resource.fd_limit", "set": {"limit": 0}})",
       R"({"fault": "ipc.close", "set": {"stream": "stdin", "after_bytes": 0}})",
       R"({"fault": "input.truncate", "set": {"keep": "0%"}})",
       R"({"fault": "input.truncate", "set": {"keep": "1K"}})",
       R"({"fault": "process.kill", "victim": {"pick": 2, "worker": 0, "incarnation": 1}})",
       R"({"fault": "process.signal", "set": {"signal": "STOP"}, "victim": {"holding_item": true}})"}) {
    const auto fault = parse_fault(json::parse(text), "");
    EXPECT_TRUE(fault) << text << ": " << (fault ? "" : fault.error().message);
  }
}

TEST(Settings, EveryFallbackOfTheCatalogueIsWithinItsBounds) {
  for (const FaultRow& row : fault_catalogue()) {
    for (const FaultKey& key : row.keys) {
      EXPECT_LE(key.least, key.most) << row.name << " " << key.key;
      const bool number = key.type == KeyType::kCount && key.fallback != nullptr;
      if (number) {
        EXPECT_TRUE(check_bounds(key, std::stoll(key.fallback), key.fallback)) << row.name;
      }
    }
  }
}

}  // namespace
}  // namespace crashworthy
