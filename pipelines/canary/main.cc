// canary: a subject that sins on purpose, to prove that the checker sees each sin and nothing else.
//
//   canary --output DIR [--count N] [--lose I] [--duplicate I] [--misplace I] [--corrupt I]
//   [--half-way] [--hang]
//
// It writes N small images, one an item. Through the probe it claims that every item was delivered:
// the checker must not believe it.
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "harness/os/file.h"
#include "harness/os/random.h"
#include "harness/probe/probe.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;

struct Sins {
  fs::path output;
  long count = 20;
  long lose = -1, duplicate = -1, misplace = -1, corrupt = -1;
  bool half_way = false;  // Exits with 0 after half of the items.
  bool hang = false;      // Stops producing after half of the items, and lives on.
};

std::string name_of(long item) {
  char name[32];
  std::snprintf(name, sizeof name, "item_%03ld.pgm", item);
  return name;
}

// A grey image that no other item has.
std::string picture_of(long item, bool corrupt) {
  constexpr int kSide = 32;
  std::string image = "P5\n32 32\n255\n";
  Random random(derive_seed(7, "canary", static_cast<std::uint64_t>(item)));
  for (int i = 0; i < kSide * kSide; ++i) image += static_cast<char>(random.below(256));
  if (corrupt) image.back() = static_cast<char>(image.back() ^ 1);  // One bit of one pixel.
  return image;
}

bool write_output(const fs::path& path, const std::string& content) {
  const auto written = write_file_atomically(path, content);
  if (!written) std::fprintf(stderr, "canary: error: %s\n", written.error().message.c_str());
  return written.ok();
}

bool produce(const Sins& sins, long item) {
  const std::string picture = picture_of(item, item == sins.corrupt);
  if (item == sins.lose) return true;
  if (item == sins.misplace) return write_output(sins.output / "elsewhere.pgm", picture);
  if (item == sins.duplicate && !write_output(sins.output / "again.pgm", picture)) return false;
  return write_output(sins.output / name_of(item), picture);
}

int run(const Sins& sins) {
  const Probe probe = Probe::from_environment();
  constexpr ProbeIdentity kOnly{0, 1};
  probe.emit(ProbeEvent::kWorkerReady, kOnly);
  for (long item = 0; item < sins.count; ++item) {
    if (sins.half_way && item == sins.count / 2) return 0;
    while (sins.hang && item == sins.count / 2) ::pause();
    const auto id = static_cast<std::uint64_t>(item);
    probe.emit(ProbeEvent::kTaken, kOnly, id);
    probe.emit(ProbeEvent::kStarted, kOnly, id, 0, 1);
    ::usleep(5000);  // Long enough that a fault finds it at work.
    if (!produce(sins, item)) return 1;
    probe.emit(ProbeEvent::kDone, kOnly, id, 0, 1);
    probe.emit(ProbeEvent::kDelivered, kOnly, id);
  }
  return 0;
}

// Reads the options; false on anything unknown.
bool parse(int argc, char** argv, Sins& sins) {
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--half-way" || word == "--hang") {
      (word == "--hang" ? sins.hang : sins.half_way) = true;
      continue;
    }
    if (i + 1 == argc) return false;
    const char* value = argv[++i];
    if (word == "--output") {
      sins.output = value;
      continue;
    }
    long* target = word == "--count"       ? &sins.count
                   : word == "--lose"      ? &sins.lose
                   : word == "--duplicate" ? &sins.duplicate
                   : word == "--misplace"  ? &sins.misplace
                   : word == "--corrupt"   ? &sins.corrupt
                                           : nullptr;
    char* end = nullptr;
    if (target == nullptr) return false;
    *target = std::strtol(value, &end, 10);
    if (*end != '\0' || *target < 0) return false;
  }
  return !sins.output.empty();
}

}  // namespace
}  // namespace crashworthy

int main(int argc, char** argv) {
  crashworthy::Sins sins;
  if (!crashworthy::parse(argc, argv, sins)) {
    std::fprintf(stderr,
                 "usage: canary --output DIR [--count N] [--lose I] [--duplicate I] [--misplace I] "
                 "[--corrupt I] [--half-way] [--hang]\n");
    return 64;
  }
  return crashworthy::run(sins);
}
