// What an injection makes or changes outside of the subject's own tree, as the history tells of it:
// enough to find it again, to know that it is still the same, and to undo it, if the harness dies
// before it does so itself (`crashworthy recover`, docs/results-format.md).
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "harness/os/result.h"

namespace crashworthy {

// The last part of every path that we make outside of directories of our own begins with it.
inline constexpr const char* kOwnPrefix = "crashworthy-";

struct Resource {
  enum class Kind { kFile, kDirectory, kSocket, kCgroup, kProcess, kLimit };
  struct Inode {
    std::uint64_t device = 0;
    std::uint64_t number = 0;
    bool operator==(const Inode&) const = default;
  };

  // What will be made, or has been: with its inode, if it is there already. `path` is absolute, and
  // its last part begins with kOwnPrefix.
  static Resource at(Kind kind, const std::filesystem::path& path);
  // A process of ours, to be killed; or one that we stop, to be continued.
  static Resource process(pid_t pid, bool kill);
  // A limit of a live process that is about to be changed (RLIMIT_AS, ...), as it is now.
  static Resource limit(pid_t pid, int which);

  Kind kind = Kind::kFile;
  std::filesystem::path path;    // kFile, kDirectory, kSocket, kCgroup
  std::optional<Inode> inode;    // Empty: it was not there yet.
  pid_t pid = 0;                 // kProcess, kLimit: as we see it,
  std::uint64_t start_time = 0;  // and when it was born; 0: it had ended already.
  bool kill = false;             // kProcess
  int which = 0;                 // kLimit
  rlimit before{};
};

// The inode at `path` itself (a link is not followed); empty when nothing is there.
std::optional<Resource::Inode> inode_at(const std::filesystem::path& path);

nlohmann::json to_json(const Resource& resource);
// As to_json() writes it.
Result<Resource> resource_from_json(const nlohmann::json& object);

}  // namespace crashworthy
