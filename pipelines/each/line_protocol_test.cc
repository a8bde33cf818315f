// Lines of workers: what is read, what is refused, and how they are cut out of a pipe.
#include "pipelines/each/line_protocol.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "harness/os/file.h"
#include "harness/os/unique_fd.h"
#include "pipelines/each/items.h"

namespace crashworthy::each {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Kind = Answer::Kind;

TEST(ItemLine, EncodesPaths) {
  EXPECT_EQ(item_line(7, 2, "in/a b%\xc3\xa9.jpg", "out/x\n.png"),
            "item 7 2 in/a%20b%25%C3%A9.jpg out/x%0A.png\n");
}

TEST(Answers, AreReadExactly) {
  EXPECT_EQ(parse_answer("ready")->kind, Kind::kReady);
  EXPECT_EQ(parse_answer("heartbeat")->kind, Kind::kHeartbeat);
  EXPECT_EQ(parse_answer("started 0")->kind, Kind::kStarted);
  EXPECT_EQ(parse_answer("done 18446744073709551615")->item, ~std::uint64_t{0});
  const auto failed = parse_answer("failed 3 no such  file");
  EXPECT_EQ(failed->kind, Kind::kFailed);
  EXPECT_EQ(failed->item, 3u);
  EXPECT_EQ(failed->message, "no such  file");
  EXPECT_EQ(parse_answer("failed 3")->message, "");
}

TEST(Answers, RefuseWhatMakesNoSense) {
  for (const char* line : {"", "READY", "ready ", " ready", "ready\r", "done", "done ", "done x",
                           "done -1", "done 1 2", "done  1", "started 1x", "failed", "failed x y",
                           "done 18446744073709551616", "hello"}) {
    const auto answer = parse_answer(line);
    ASSERT_FALSE(answer) << "'" << line << "'";
    EXPECT_EQ(answer.error().kind, ErrorKind::kCorrupt);
  }
  EXPECT_THAT(parse_answer("\x1b[2J").error().message, HasSubstr("'?[2J'"));
}

class Lines : public ::testing::Test {
 protected:
  Lines() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) throw std::runtime_error("no pipe");
    read_.reset(ends[0]);
    write_.reset(ends[1]);
  }
  LineReader::State after(const std::string& text) {
    EXPECT_TRUE(write_all(write_.get(), text));
    return reader_.read(read_.get(), lines_);
  }

  UniqueFd read_, write_;
  LineReader reader_;
  std::vector<std::string> lines_;
};

TEST_F(Lines, ComeInPieces) {
  EXPECT_EQ(after("rea"), LineReader::State::kOpen);
  EXPECT_THAT(lines_, ElementsAre());
  EXPECT_EQ(after("dy\nstarted 1\ndo"), LineReader::State::kOpen);
  EXPECT_THAT(lines_, ElementsAre("ready", "started 1"));
  EXPECT_EQ(after("ne 1\n"), LineReader::State::kOpen);
  EXPECT_THAT(lines_, ElementsAre("ready", "started 1", "done 1"));
  EXPECT_EQ(reader_.read(read_.get(), lines_), LineReader::State::kOpen) << "nothing is there";
  write_.reset();
  EXPECT_EQ(reader_.read(read_.get(), lines_), LineReader::State::kEnd);
}

TEST_F(Lines, MayBeSoLongAndNoLonger) {
  EXPECT_EQ(after(std::string(kMaxLine, 'x') + "\n"), LineReader::State::kOpen);
  EXPECT_EQ(lines_.at(0).size(), kMaxLine);
  EXPECT_EQ(after(std::string(kMaxLine + 1, 'x') + "\n"), LineReader::State::kTooLong);
}

TEST_F(Lines, WithoutAnEndAreTooLongAtOnce) {
  EXPECT_EQ(after(std::string(kMaxLine, 'x')), LineReader::State::kOpen);
  EXPECT_EQ(after("x"), LineReader::State::kTooLong);
}

TEST(Marks, AreFilledInWhereverTheyStand) {
  EXPECT_THAT(
      fill_in({"convert", "{}[0]", "-comment", "{a}", "png:{out}", "{}{}"}, "in/{out}", "o"),
      ElementsAre("convert", "in/{out}[0]", "-comment", "{a}", "png:o", "in/{out}in/{out}"));
  EXPECT_EQ(temporary_name("out/a.png", 3, 2), "out/.each-3-2-a.png");
  EXPECT_EQ(temporary_name("a.png", 3, 2), ".each-3-2-a.png");
  const std::string longest = std::string(251, 'a') + ".png";
  const std::string cut = temporary_name("out/" + longest, 3, 2);
  EXPECT_EQ(cut.size(), longest.size() + 4) << "as long as a name can be";
  EXPECT_TRUE(cut.starts_with("out/.each-3-2-aa") && cut.ends_with("aa.png")) << cut;
}

}  // namespace
}  // namespace crashworthy::each
