// What the endurance tests of the pool share: items whose frames can be recomputed, the process
// tree as /proc shows it, and the pool's shared mappings as a worker sees them.
#pragma once

#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "harness/os/file.h"
#include "harness/os/pidfd.h"
#include "harness/os/random.h"
#include "harness/worker/pool_test_util.h"

namespace crashworthy::test {

inline constexpr int kUnlimited = 1'000'000;
inline bool long_counts() { return std::getenv("CRASHWORTHY_LONG") != nullptr; }

inline void no_core_files() {
  const rlimit none{0, 0};
  ::setrlimit(RLIMIT_CORE, &none);
}

// ---- Items ----

inline constexpr std::size_t kMostWords = 256;

inline std::size_t words_of(std::uint64_t item) {
  return 1 + derive_seed(1, "size", item) % kMostWords;
}

inline std::uint64_t mixed(std::span<const std::uint64_t> words, std::uint64_t start) {
  for (const std::uint64_t word : words) start = (start ^ word) * 0x9E3779B97F4A7C15u + 1;
  return start;
}

inline std::vector<std::uint64_t> input_of(std::uint64_t item) {
  Random random(derive_seed(2, "input", item));
  std::vector<std::uint64_t> words(words_of(item));
  for (std::uint64_t& word : words) word = random.next();
  return words;
}

inline std::vector<std::uint64_t> output_of(std::span<const std::uint64_t> input,
                                            std::uint64_t item) {
  std::vector<std::uint64_t> words(input.begin(), input.end());
  std::uint64_t carry = item;
  for (std::uint64_t& word : words) word = carry = word ^ (carry * 0x100000001b3u);
  return words;
}

// The text of the result: a checksum of both frames.
inline std::string text_of(std::span<const std::uint64_t> input,
                           std::span<const std::uint64_t> output) {
  return std::to_string(mixed(output, mixed(input, 7)));
}

// The job with its input frame; without one when the pool has no room for it now.
inline Job framed_job(Executor& pool, std::uint64_t item) {
  Job made = job(item);
  const auto input = input_of(item);
  const std::size_t bytes = input.size() * 8;
  Frame frame = pool.allocate_frame(bytes);
  if (!frame) return made;
  std::memcpy(frame.data(), input.data(), bytes);
  const FrameRef ref = frame.ref();
  made.arguments.assign(reinterpret_cast<const char*>(&ref), sizeof ref);
  made.output_bytes = bytes;
  made.inputs.push_back(std::move(frame));
  return made;
}

// What a sane worker does with it.
inline JobOutput work(const Job& given, const JobContext& context) {
  FrameRef ref;
  std::memcpy(&ref, given.arguments.data(), sizeof ref);
  const auto bytes = context.frame(ref);
  std::vector<std::uint64_t> input(bytes.size() / 8);
  std::memcpy(input.data(), bytes.data(), bytes.size());
  const auto output = output_of(input, given.item);
  std::memcpy(context.output.data(), output.data(), output.size() * 8);
  return {text_of(input, output), {}, {}, output.size() * 8};
}

// Whether the result is what this process computes by itself.
inline bool golden(const JobResult& result) {
  const auto input = input_of(result.job.item);
  const auto output = output_of(input, result.job.item);
  return result.outcome == JobOutcome::kDone && result.frame.size() == output.size() * 8 &&
         std::memcmp(result.frame.data(), output.data(), output.size() * 8) == 0 &&
         result.output.bytes == text_of(input, output);
}

// ---- Processes ----

struct ProcessLine {
  pid_t parent = 0;
  char state = '?';
};

// Empty when there is no such process, any more.
inline std::optional<ProcessLine> process_line(pid_t pid) {
  const auto text = read_file("/proc/" + std::to_string(pid) + "/stat");
  const std::size_t name_end = text ? text->rfind(')') : std::string::npos;
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream rest(text->substr(name_end + 1));
  ProcessLine line;
  rest >> line.state >> line.parent;
  return line;
}

inline std::map<pid_t, ProcessLine> all_processes() {
  std::map<pid_t, ProcessLine> all;
  std::error_code failure;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", failure)) {
    const pid_t pid = std::atoi(entry.path().filename().c_str());
    if (pid <= 0) continue;
    if (const auto line = process_line(pid)) all[pid] = *line;
  }
  return all;
}

// Everything below us, and the pool's zygotes with all that is below them: the one whose parent was
// the other one is init's once that has died.
inline std::map<pid_t, ProcessLine> family(const std::vector<pid_t>& zygotes) {
  const auto all = all_processes();
  const pid_t root = ::getpid();
  std::map<pid_t, ProcessLine> found;
  for (const pid_t zygote : zygotes) {
    if (all.count(zygote) != 0) found.insert(*all.find(zygote));
  }
  for (bool grown = true; grown;) {
    grown = false;
    for (const auto& [pid, line] : all) {
      if (line.parent != root && found.count(line.parent) == 0) continue;
      grown |= found.emplace(pid, line).second;
    }
  }
  return found;
}

// Sends the signal if the process is still a child of one of these parents: a pid read a moment ago
// may be somebody else's now.
inline bool signal_child_of(const std::vector<pid_t>& parents, pid_t pid, int signal) {
  if (pid <= 0) return false;
  auto pidfd = open_pidfd(pid);
  if (!pidfd) return false;
  const auto line = process_line(pid);
  if (!line || std::find(parents.begin(), parents.end(), line->parent) == parents.end()) {
    return false;
  }
  return send_signal(pidfd->get(), signal).ok();
}

// ---- Resources ----

struct Resources {
  std::size_t descriptors = 0;
  std::size_t processes = 0;  // Of the pool.
  std::size_t zombies = 0;
  std::size_t resident_kib = 0;
  std::size_t shared_kib = 0;  // Of the pool's memory.
};

inline Resources resources_now(const Pool& pool) {
  Resources now;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    ++now.descriptors;
    std::error_code failure;
    const std::string link = std::filesystem::read_symlink(entry.path(), failure);
    if (link.find("memfd:crashworthy-") == std::string::npos) continue;
    struct stat info {};
    if (::stat(entry.path().c_str(), &info) == 0) {
      now.shared_kib += static_cast<std::size_t>(info.st_blocks) / 2;
    }
  }
  for (const auto& [pid, line] : family(pool.zygotes())) {
    ++now.processes;
    now.zombies += line.state == 'Z';
  }
  std::ifstream statm("/proc/self/statm");
  std::size_t size = 0;
  statm >> size >> now.resident_kib;
  now.resident_kib *= 4;
  return now;
}

// ---- Mappings ----

struct Mapping {
  std::byte* begin = nullptr;
  std::byte* end = nullptr;
  std::string name;
  bool writable = false;
  std::size_t size() const { return static_cast<std::size_t>(end - begin); }
};

// The shared mappings of the pool in this process.
inline std::vector<Mapping> pool_mappings() {
  std::vector<Mapping> found;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    const bool ours = line.find("crashworthy-cells") != std::string::npos ||
                      line.find("crashworthy-orders") != std::string::npos ||
                      line.find("crashworthy-frames") != std::string::npos;
    if (!ours) continue;
    unsigned long begin = 0;
    unsigned long end = 0;
    std::array<char, 5> rights{};
    if (std::sscanf(line.c_str(), "%lx-%lx %4s", &begin, &end, rights.data()) != 3) continue;
    Mapping mapping;
    mapping.begin = reinterpret_cast<std::byte*>(begin);
    mapping.end = reinterpret_cast<std::byte*>(end);
    mapping.name = line.substr(line.find("crashworthy-") + 12);
    mapping.name = mapping.name.substr(0, mapping.name.find(' '));
    mapping.writable = rights[1] == 'w' && rights[3] == 's';
    found.push_back(mapping);
  }
  return found;
}

inline Mapping own_cell() {
  for (const Mapping& mapping : pool_mappings()) {
    if (mapping.writable && mapping.name == "cells") return mapping;
  }
  return {};
}

// ---- Pools ----

// Until every place has its worker and all spares are ready. False when that takes too long.
inline bool settle(Pool& pool, std::size_t spares) {
  const std::int64_t until = now_ns() + kPatienceNs;
  while (now_ns() < until) {
    const auto workers = pool.workers();
    const auto zygotes = pool.zygotes();
    if (std::count(workers.begin(), workers.end(), 0) == 0 && pool.spares().size() == spares &&
        std::count(zygotes.begin(), zygotes.end(), 0) == 0) {
      return true;
    }
    const auto came = pool.wait(5ms);
    EXPECT_TRUE(came) << came.error().message;
    if (!came) return false;
    EXPECT_TRUE(came->empty()) << "results that nobody waits for";
  }
  return false;
}

}  // namespace crashworthy::test
