#include "faults/resource.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "harness/os/check.h"
#include "harness/os/pidfd.h"

namespace crashworthy {
namespace {

using nlohmann::json;

constexpr std::array<const char*, 6> kKindNames{"file",   "directory", "socket",
                                                "cgroup", "process",   "limit"};

bool has_path(Resource::Kind kind) { return kind <= Resource::Kind::kCgroup; }

}  // namespace

Resource Resource::at(Kind kind, const std::filesystem::path& path) {
  CRASHWORTHY_CHECK(has_path(kind) && path.is_absolute(), path.string());
  CRASHWORTHY_CHECK(path.filename().string().starts_with(kOwnPrefix), path.string());
  Resource resource;
  resource.kind = kind;
  resource.path = path;
  resource.inode = inode_at(path);
  return resource;
}

Resource Resource::process(pid_t pid, bool kill) {
  Resource resource;
  resource.kind = Kind::kProcess;
  resource.pid = pid;
  resource.start_time = start_time_of(pid).value_or(0);
  resource.kill = kill;
  return resource;
}

Resource Resource::limit(pid_t pid, int which) {
  Resource resource = process(pid, false);
  resource.kind = Kind::kLimit;
  resource.which = which;
  const auto limit = static_cast<__rlimit_resource>(which);
  if (::prlimit(pid, limit, nullptr, &resource.before) != 0) resource.start_time = 0;
  return resource;
}

std::optional<Resource::Inode> inode_at(const std::filesystem::path& path) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0) return std::nullopt;
  return Resource::Inode{info.st_dev, info.st_ino};
}

json to_json(const Resource& resource) {
  json object{{"kind", kKindNames[static_cast<std::size_t>(resource.kind)]}};
  if (has_path(resource.kind)) {
    object["path"] = resource.path.string();
    if (resource.inode) {
      object["device"] = resource.inode->device;
      object["inode"] = resource.inode->number;
    }
    return object;
  }
  object["pid"] = resource.pid;
  object["start_time"] = resource.start_time;
  if (resource.kind == Resource::Kind::kProcess) {
    object["undo"] = resource.kill ? "kill" : "continue";
  } else {
    object["limit"] = resource.which;
    object["soft"] = resource.before.rlim_cur;
    object["hard"] = resource.before.rlim_max;
  }
  return object;
}

Result<Resource> resource_from_json(const json& object) {
  const Error wrong = corrupt_error("a resource in the history makes no sense");
  if (!object.is_object()) return wrong;
  try {
    const auto name = object.value("kind", std::string());
    const auto* const found = std::find(kKindNames.begin(), kKindNames.end(), name);
    if (found == kKindNames.end()) return wrong;
    Resource resource;
    resource.kind = static_cast<Resource::Kind>(found - kKindNames.begin());
    resource.path = object.value("path", std::string());
    if (object.contains("inode")) {
      resource.inode = Resource::Inode{object.at("device").get<std::uint64_t>(),
                                       object["inode"].get<std::uint64_t>()};
    }
    resource.pid = object.value("pid", 0);
    resource.start_time = object.value("start_time", std::uint64_t{0});
    resource.kill = object.value("undo", std::string()) == "kill";
    resource.which = object.value("limit", 0);
    resource.before.rlim_cur = object.value("soft", std::uint64_t{0});
    resource.before.rlim_max = object.value("hard", std::uint64_t{0});
    if (has_path(resource.kind) != !resource.path.empty()) return wrong;
    if (!has_path(resource.kind) && resource.pid <= 0) return wrong;
    return resource;
  } catch (const json::exception&) {
    return wrong;
  }
}

}  // namespace crashworthy
