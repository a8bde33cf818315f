// Where a command line ends and the command begins.
#include "pipelines/each/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace crashworthy::each {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

struct Taken {
  int left;
  std::vector<std::string> command;
};
Taken take(std::vector<std::string> words) {
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  int argc = static_cast<int>(argv.size());
  std::vector<std::string> command = take_command(argc, argv.data());
  return {argc, command};
}

TEST(CommandLine, ACommandIsWhatFollowsTheFirstDashes) {
  EXPECT_EQ(take({"each", "--list", "l"}).left, 3);
  EXPECT_THAT(take({"each", "--list", "l"}).command, IsEmpty());
  EXPECT_EQ(take({"each", "--"}).left, 1);
  EXPECT_THAT(take({"each", "--"}).command, IsEmpty());
  EXPECT_EQ(take({"each", "-x", "--", "a", "--", "-b"}).left, 2);
  EXPECT_THAT(take({"each", "-x", "--", "a", "--", "-b"}).command, ElementsAre("a", "--", "-b"));
}

TEST(CommandLine, ADurationThatIsNoneIsNamed) {
  const std::string good = "5s", bad = "soon";
  std::chrono::nanoseconds first{}, second{};
  EXPECT_TRUE(read_durations({{"--first", &good, &first}}));
  EXPECT_EQ(first, std::chrono::seconds(5));
  const auto read = read_durations({{"--first", &good, &first}, {"--second", &bad, &second}});
  ASSERT_FALSE(read);
  EXPECT_THAT(read.error().message, HasSubstr("--second"));
}

}  // namespace
}  // namespace crashworthy::each
