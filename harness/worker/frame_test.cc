// Frames: the allocator gives every byte to one frame at a time and gets all of it back; in a
// worker only what is unsealed can be written.
#include "harness/worker/frame.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "harness/os/random.h"

namespace crashworthy {
namespace {

constexpr std::size_t kPage = 4096;

std::shared_ptr<FrameArena> arena_of(std::size_t regions, std::size_t pages) {
  return FrameArena::create(regions, pages * kPage).value();
}

TEST(Frames, LieWithinTheirRegionWithAGuardPageBetween) {
  const auto arena = arena_of(2, 8);
  const Frame first = arena->allocate(1, 1);
  const Frame second = arena->allocate(1, kPage);
  const Frame third = arena->allocate(1, kPage + 1);
  EXPECT_EQ(first.ref().offset, 0u);
  EXPECT_EQ(second.ref().offset, 2 * kPage);
  EXPECT_EQ(third.ref().offset, 4 * kPage);
  EXPECT_FALSE(arena->allocate(1, 1)) << "7 of 8 pages are taken, and one needs two";
  EXPECT_TRUE(arena->allocate(0, 7 * kPage)) << "the other region is its own";
  EXPECT_FALSE(arena->allocate(0, 8 * kPage)) << "there is no room for the guard";
  EXPECT_EQ(arena->view(second.ref()).data(), second.data());
  EXPECT_EQ(second.size(), kPage);
}

TEST(Frames, ReferencesThatLeaveTheirRegionAreEmpty) {
  const auto arena = arena_of(1, 2);
  EXPECT_EQ(arena->view({0, 0, 0, 2 * kPage}).size(), 2 * kPage);
  EXPECT_TRUE(arena->view({0, 0, 1, 2 * kPage}).empty());
  EXPECT_TRUE(arena->view({1, 0, 0, 1}).empty());
  EXPECT_TRUE(arena->view({0, 0, 3 * kPage, 0}).empty());
  EXPECT_TRUE(arena->view({0, 0, ~std::uint64_t{0}, 2}).empty());
  EXPECT_EQ(Frame().size(), 0u);
  EXPECT_EQ(Frame().data(), nullptr);
}

TEST(Frames, ShrinkingGivesBackTheRest) {
  const auto arena = arena_of(1, 16);
  Frame frame = arena->allocate(0, 15 * kPage);
  EXPECT_FALSE(arena->allocate(0, 1));
  arena->shrink(frame, 10);
  EXPECT_EQ(frame.size(), 10u);
  const Frame rest = arena->allocate(0, 13 * kPage);
  ASSERT_TRUE(rest);
  EXPECT_EQ(rest.ref().offset, 2 * kPage);
  arena->shrink(frame, 0);
  EXPECT_FALSE(frame);
  EXPECT_EQ(arena->allocate(0, 1).ref().offset, 0u);
}

// Against a map of which byte is whose.
TEST(Frames, NeverShareAByteAndAllComesBack) {
  constexpr std::size_t kPages = 64;
  const auto arena = arena_of(1, kPages);
  Random random(11);
  std::deque<Frame> frames;
  for (int step = 0; step < 20'000; ++step) {
    const bool take = random.below(3) != 0;
    if (take) {
      Frame frame = arena->allocate(0, 1 + random.below(5 * kPage));
      if (frame && random.below(2) == 0) arena->shrink(frame, 1 + random.below(frame.size()));
      if (frame) frames.push_back(std::move(frame));
    } else if (!frames.empty()) {
      frames.erase(frames.begin() + static_cast<std::ptrdiff_t>(random.below(frames.size())));
    }
    std::vector<int> owner(kPages, 0);
    for (const Frame& frame : frames) {
      const std::size_t first = frame.ref().offset / kPage;
      const std::size_t pages = (frame.size() + kPage - 1) / kPage + 1;
      ASSERT_LE(first + pages, kPages);
      for (std::size_t i = first; i < first + pages; ++i) ASSERT_EQ(owner[i]++, 0) << step;
    }
  }
  frames.clear();
  EXPECT_TRUE(arena->allocate(0, (kPages - 1) * kPage)) << "what was given back is one again";
}

TEST(Frames, OutliveTheHandleThatMadeThem) {
  Frame frame;
  {
    const auto arena = arena_of(1, 4);
    frame = arena->allocate(0, 100);
    std::memset(frame.data(), 7, 100);
  }
  EXPECT_EQ(frame.data()[99], std::byte{7});
}

// The signal that a child dies of when it writes to `offset` of an arena in which only `frame` is
// unsealed; 0: it lives.
// The kernel's word for the mapping in which the frame lies: "dd" stands for "do not dump".
TEST(Frames, AreNoPartOfACoreDump) {
  const auto arena = arena_of(2, 8);
  const Frame frame = arena->allocate(1, 1);
  const auto at = reinterpret_cast<std::uint64_t>(frame.data());
  std::ifstream maps("/proc/self/smaps");
  bool inside = false;
  for (std::string line; std::getline(maps, line);) {
    std::uint64_t first = 0, last = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &first, &last) == 2)
      inside = first <= at && at < last;
    if (inside && line.starts_with("VmFlags:")) {
      EXPECT_NE(line.find(" dd"), std::string::npos) << line;
      return;
    }
  }
  GTEST_SKIP() << "no VmFlags in smaps here";
}

int death_by_writing(FrameArena& arena, const FrameRef& unsealed, std::byte* target) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    arena.seal_all();
    if (!arena.unseal(unsealed)) ::_exit(9);
    *static_cast<volatile std::byte*>(target) = std::byte{1};
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

TEST(Frames, OnlyTheUnsealedOneCanBeWritten) {
  const auto arena = arena_of(2, 8);
  const Frame before = arena->allocate(0, kPage);
  const Frame mine = arena->allocate(0, 2 * kPage - 10);
  const Frame other = arena->allocate(1, kPage);
  EXPECT_EQ(death_by_writing(*arena, mine.ref(), mine.data()), 0);
  EXPECT_EQ(mine.data()[0], std::byte{1});
  EXPECT_EQ(death_by_writing(*arena, mine.ref(), mine.data() + mine.size() - 1), 0);
  EXPECT_EQ(death_by_writing(*arena, mine.ref(), mine.data() + 2 * kPage), SIGSEGV)
      << "its guard page";
  EXPECT_EQ(death_by_writing(*arena, mine.ref(), mine.data() - 1), SIGSEGV) << "the one before";
  EXPECT_EQ(death_by_writing(*arena, mine.ref(), before.data()), SIGSEGV);
  EXPECT_EQ(death_by_writing(*arena, mine.ref(), other.data()), SIGSEGV);
}

// ---- Copies ----

// The signal that a child dies of, which runs `act` as a worker that copies; 0: it lives.
template <typename Act>
int death_with_copies(FrameArena& arena, const Act& act) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    arena.seal_all();
    arena.use_copies();
    act();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  EXPECT_FALSE(WIFEXITED(status) && WEXITSTATUS(status) != 0) << WEXITSTATUS(status);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

TEST(Frames, ACopyIsWrittenBackAndTheFrameItselfIsNeverOpen) {
  const auto arena = arena_of(2, 100);
  const Frame before = arena->allocate(0, kPage);
  const Frame frame = arena->allocate(0, 2 * kPage - 10);
  const Frame large = arena->allocate(0, FrameArena::kMostCopied + 1);
  const auto fill = [&](std::byte value) {
    const std::span<std::byte> output = arena->writable(frame.ref());
    if (output.size() != frame.size() || output.data() == frame.data()) ::_exit(8);
    if (!arena->unseal(frame.ref())) ::_exit(9);
    std::memset(output.data(), static_cast<int>(value), output.size());
  };
  const auto write_back = [&](std::size_t bytes) {
    if (!arena->write_back(frame.ref(), bytes) || !arena->seal(frame.ref())) ::_exit(7);
  };
  EXPECT_EQ(death_with_copies(*arena, [&] { fill(std::byte{1}), write_back(frame.size()); }), 0);
  EXPECT_EQ(frame.data()[frame.size() - 1], std::byte{1});
  EXPECT_EQ(death_with_copies(*arena, [&] { fill(std::byte{2}), write_back(100); }), 0);
  EXPECT_EQ(frame.data()[99], std::byte{2});
  EXPECT_EQ(frame.data()[100], std::byte{1}) << "no more than it was told";
  EXPECT_EQ(before.data()[kPage - 1], std::byte{0});
  EXPECT_EQ(death_with_copies(*arena, [&] { fill(std::byte{3}); }), 0);
  EXPECT_EQ(frame.data()[0], std::byte{2}) << "it was not written back";
  const auto poke = [](std::byte* target) { *static_cast<volatile std::byte*>(target) = {}; };
  EXPECT_EQ(death_with_copies(*arena, [&] { fill({}), poke(frame.data()); }), SIGSEGV);
  EXPECT_EQ(
      death_with_copies(*arena, [&] { poke(arena->writable(frame.ref()).data() + 2 * kPage); }),
      SIGSEGV)
      << "a guard page";
  EXPECT_EQ(death_with_copies(*arena,
                              [&] {
                                if (!arena->unseal(large.ref())) ::_exit(9);
                                if (arena->writable(large.ref()).data() != large.data()) ::_exit(8);
                                poke(large.data());
                                if (!arena->seal(large.ref())) ::_exit(9);
                              }),
            0)
      << "too large to be copied";
  // The descriptor is gone, or another file's.
  const auto close_all = [&] { ::close_range(3, ~0u, 0); };
  EXPECT_EQ(death_with_copies(*arena, [&] { fill(std::byte{4}), close_all(), write_back(1); }), 0);
  EXPECT_EQ(frame.data()[0], std::byte{4});
  EXPECT_EQ(frame.data()[1], std::byte{2});
}

// ---- Banks ----

TEST(Frames, ABankHoldsOneFrameAndIsFreeAgainWithIt) {
  const auto arena = FrameArena::create(1, 8 * kPage, 3 * kPage).value();
  std::vector<Frame> banked;
  for (std::size_t i = 0; i < FrameArena::kBanks; ++i) {
    banked.push_back(arena->allocate_output(0, 2 * kPage));
    EXPECT_EQ(banked.back().ref().offset, i * 3 * kPage);
  }
  const std::uint64_t banks = FrameArena::kBanks * 3 * kPage;
  EXPECT_EQ(arena->allocate_output(0, 1).ref().offset, banks) << "no bank is free";
  EXPECT_EQ(arena->allocate(0, 1).ref().offset, banks) << "inputs take no bank";
  arena->shrink(banked[3], 7);
  EXPECT_EQ(banked[3].size(), 7u);
  banked[3] = Frame();
  EXPECT_EQ(arena->allocate_output(0, 2 * kPage + 1).ref().offset, banks) << "it fits no bank";
  EXPECT_EQ(arena->allocate_output(0, 1).ref().offset, 3 * 3 * kPage);
}

// The signal that a child dies of, which runs `act` with the keys of region 0.
template <typename Act>
int death_with_keys(FrameArena& arena, const Act& act) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    arena.seal_all();
    arena.use_keys(0);
    act();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

// With keys, or without where there are none.
TEST(Frames, OnlyAnOpenBankCanBeWritten) {
  const auto arena = FrameArena::create(1, 8 * kPage, 3 * kPage).value();
  const Frame open = arena->allocate_output(0, 2 * kPage);
  const Frame shut = arena->allocate_output(0, 2 * kPage);
  const Frame other = arena->allocate_output(0, 3 * kPage);  // In no bank.
  const auto poke = [](std::byte* target) { *static_cast<volatile std::byte*>(target) = {}; };
  const auto death = [&](const Frame& used, std::byte* target) {
    return death_with_keys(*arena, [&] {
      if (!arena->unseal(used.ref())) ::_exit(9);
      poke(target);
    });
  };
  EXPECT_EQ(death(open, open.data()), 0);
  EXPECT_EQ(death(open, open.data() + open.size() - 1), 0);
  EXPECT_EQ(death(open, open.data() + open.size()), SIGSEGV) << "its guard page";
  EXPECT_EQ(death(open, shut.data()), SIGSEGV);
  EXPECT_EQ(death(open, other.data()), SIGSEGV);
  EXPECT_EQ(death(other, other.data()), 0);
  EXPECT_EQ(death(other, open.data()), SIGSEGV);
  const int after_sealing = death_with_keys(*arena, [&] {
    if (!arena->unseal(open.ref())) ::_exit(9);
    poke(open.data());
    if (!arena->seal(open.ref())) ::_exit(9);
    if (!arena->unseal(shut.ref())) ::_exit(9);
    poke(open.data());
  });
  EXPECT_EQ(after_sealing, SIGSEGV);
  const int in_a_thread = death_with_keys(*arena, [&] {
    if (!arena->unseal(open.ref())) ::_exit(9);
    std::thread([&] { poke(open.data()); }).join();
  });
  EXPECT_EQ(in_a_thread, 0) << "a thread that was started meanwhile";
}

}  // namespace
}  // namespace crashworthy
