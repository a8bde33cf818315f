// What becomes of an item whose executions end in this way or that: quarantine, retries, loss.
#include "pipelines/each/books.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <vector>

namespace crashworthy::each {
namespace {

namespace fs = std::filesystem;

class BooksOf : public ::testing::Test {
 protected:
  BooksOf() {
    std::string pattern = (fs::temp_directory_path() / "each-books-XXXXXX").string();
    directory_ = ::mkdtemp(pattern.data());
    settings_.command = {"x", "{}", "{out}"};
    for (const char* name : {"a", "b"}) items_.push_back({name, (directory_ / name).string()});
    ring_ = std::move(*ProbeRing::create(1024));
  }
  ~BooksOf() override {
    std::error_code ignored;
    fs::remove_all(directory_, ignored);
  }

  Books open(bool supervised) {
    settings_.supervised = supervised;
    return Books(settings_, items_, ring_->probe());
  }
  Attempt take(Books& books, bool fresh = true) {
    auto attempt = books.take({0, 1, next_++}, fresh);
    EXPECT_TRUE(attempt.has_value());
    return attempt.value_or(Attempt());
  }
  static void write(const Attempt& attempt) { std::ofstream(attempt.output) << "output"; }
  std::vector<ProbeRecord> all(ProbeEvent event) {
    std::vector<ProbeRecord> found;
    ring_->drain(records_, true);
    for (const ProbeRecord& record : records_) {
      if (record.event == static_cast<std::uint16_t>(event)) found.push_back(record);
    }
    return found;
  }
  FailureReason failure() {
    const auto failed = all(ProbeEvent::kFailed);
    EXPECT_EQ(failed.size(), 1u);
    return failed.empty() ? FailureReason{} : static_cast<FailureReason>(failed[0].value);
  }

  fs::path directory_;
  Settings settings_;
  std::vector<Item> items_;
  std::optional<ProbeRing> ring_;
  std::vector<ProbeRecord> records_;
  std::uint64_t next_ = 0;
  Doer doer_{{0, 1}, 42};
};

TEST_F(BooksOf, SuccessIsAnOutputInItsPlace) {
  Books books = open(true);
  const Attempt attempt = take(books);
  EXPECT_NE(attempt.output, items_[0].output) << "it is written beside";
  write(attempt);
  books.succeeded(attempt, doer_);
  EXPECT_TRUE(fs::exists(items_[0].output));
  EXPECT_FALSE(fs::exists(attempt.output));
  EXPECT_EQ(books.summary().delivered, 1u);
  EXPECT_EQ(all(ProbeEvent::kDelivered).size(), 1u);
  EXPECT_EQ(all(ProbeEvent::kDone).at(0).value, 0);
}

TEST_F(BooksOf, SuccessWithoutAnOutputIsAFailure) {
  Books books = open(true);
  books.succeeded(take(books), doer_);
  EXPECT_EQ(books.summary().delivered, 0u);
  EXPECT_EQ(all(ProbeEvent::kDone).at(0).value, static_cast<std::int64_t>(FailureReason::kWrite));
  EXPECT_EQ(books.open(), 2u) << "it is tried again";
}

TEST_F(BooksOf, TwoCrashesTheSecondAloneQuarantine) {
  Books books = open(true);
  const Attempt first = take(books);
  write(first);
  books.died(first, Blame::kCrash, "killed by SIGABRT");
  EXPECT_FALSE(fs::exists(first.output)) << "half an output is removed";
  const Attempt second = take(books);
  EXPECT_EQ(second.item, first.item) << "before those that wait";
  EXPECT_EQ(second.number, 2u);
  EXPECT_TRUE(second.alone);
  books.died(second, Blame::kCrash, "killed by SIGABRT");
  EXPECT_EQ(failure(), FailureReason::kPoison);
  EXPECT_EQ(books.open(), 1u);
}

TEST_F(BooksOf, KillsFromOutsideConvictNobody) {
  Books books = open(true);
  for (int i = 1; i < settings_.max_attempts; ++i) {
    const Attempt attempt = take(books);
    ASSERT_EQ(attempt.item, 0u);
    books.died(attempt, Blame::kNone, "killed by SIGKILL");
  }
  EXPECT_TRUE(all(ProbeEvent::kFailed).empty());
  books.died(take(books), Blame::kNone, "killed by SIGKILL");
  EXPECT_EQ(failure(), FailureReason::kRetries) << "but there is a bound";
}

TEST_F(BooksOf, TwoHangsAreADeadline) {
  Books books = open(true);
  books.died(take(books), Blame::kDeadline, "late");
  books.died(take(books), Blame::kSilence, "silent");
  EXPECT_EQ(failure(), FailureReason::kDeadline);
}

TEST_F(BooksOf, ReportedFailuresAreTriedBehindTheOthers) {
  Books books = open(true);
  for (const std::uint64_t item : {0u, 1u, 0u, 1u, 0u}) {
    const Attempt attempt = take(books);
    EXPECT_EQ(attempt.item, item);
    books.failed(attempt, doer_, FailureReason::kReported, "exited with 1");
  }
  EXPECT_EQ(failure(), FailureReason::kReported);
  EXPECT_EQ(books.open(), 1u);
}

TEST_F(BooksOf, WhoHasExecutedSomethingGetsNoSuspect) {
  Books books = open(true);
  books.died(take(books, false), Blame::kCrash, "killed by SIGSEGV");
  EXPECT_EQ(take(books, false).item, 1u);
  EXPECT_TRUE(books.only_for_fresh());
  EXPECT_FALSE(books.take({0, 1, 9}, false).has_value());
  EXPECT_EQ(take(books, true).item, 0u);
}

TEST_F(BooksOf, BareTriesOnce) {
  Books books = open(false);
  const Attempt killed = take(books);
  EXPECT_EQ(killed.output, items_[0].output) << "a plain script writes in place";
  books.died(killed, Blame::kNone, "killed by SIGKILL");
  books.failed(take(books), doer_, FailureReason::kReported, "exited with 1");
  EXPECT_EQ(books.open(), 0u);
  EXPECT_EQ(books.summary().lost, 1u);
  EXPECT_EQ(books.summary().failed, 1u);
  EXPECT_EQ(failure(), FailureReason::kReported) << "of the second; nobody reported the first";
}

TEST_F(BooksOf, EachItemIsTakenOnce) {
  Books books = open(true);
  books.died(take(books), Blame::kNone, "killed by SIGKILL");
  take(books);
  take(books);
  EXPECT_EQ(all(ProbeEvent::kTaken).size(), 2u);
}

}  // namespace
}  // namespace crashworthy::each
