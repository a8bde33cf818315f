// The output directory: a result lies there under its final name whole, or not at all.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "harness/os/result.h"

namespace crashworthy::tiles {

// All temporary files of a run begin so; the item's index follows, so that who does an item again
// writes over what a dead one left.
inline constexpr std::string_view kTemporaryPrefix = ".tiles-part.";

// One run at a time uses a directory. Immutable; safe from any thread and process.
//
// Nothing is synced: what this program is to survive is the death of its processes, and what they
// wrote before it is the kernel's.
class OutputDirectory {
 public:
  // Makes the directory if it is missing, removes what an earlier run that was killed left, and
  // tries a write: kSystem when it is unwritable or full.
  static Result<OutputDirectory> open(const std::filesystem::path& path);

  // Where the item's result is put together.
  std::filesystem::path part(std::uint64_t item) const;
  // Where the tiles of an item lie that are no result yet.
  std::filesystem::path map(std::uint64_t item) const;

  // The inode of what has the name now, 0 for nothing. Asked before anybody may publish under that
  // name, it tells for certain, after the death of who was to, whether the rename has happened: see
  // published().
  std::uint64_t holder(const std::string& name) const;
  // Whether `name` was published since its holder was `replaced`. Exact, for the part and what it
  // replaces were there together and so have different inodes, nobody else gives or takes a name
  // while a run uses the directory, and each name belongs to one item. Nobody has to tell of a
  // rename in time, so nobody who is about to die is to be believed.
  bool published(const std::string& name, std::uint64_t replaced) const;

  // Writes part(item) and publishes it as `name`. On failure the part is gone and `name` is as it
  // was.
  Result<void> write(std::uint64_t item, const std::string& name, std::string_view bytes,
                     std::uint64_t replaced) const;
  // Publishes part(item) as it lies there. Done already (by one who died right after it), it does
  // nothing.
  Result<void> publish(std::uint64_t item, const std::string& name, std::uint64_t replaced) const;

  // Removes the item's temporary files.
  void discard(std::uint64_t item) const;
  // Removes all temporary files.
  void clean() const;

 private:
  explicit OutputDirectory(std::filesystem::path path) : path_(std::move(path)) {}
  std::filesystem::path path_;
};

}  // namespace crashworthy::tiles
