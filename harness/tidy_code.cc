#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <optional>
#include <regex>
#include <set>
#include <string_view>

#include "harness/tidy.h"

namespace crashworthy::tidy {
namespace {

namespace fs = std::filesystem;

// A room and the rooms that it may use beside itself. A file belongs to the longest room that its
// path begins with.
struct Room {
  std::string_view path;
  std::array<std::string_view, 12> may_use{};
};

constexpr std::string_view kEverything = "*";
constexpr std::array kRooms = {
    Room{"harness/os"},
    Room{"harness/probe", {"harness/os"}},
    Room{"faults/point"},
    Room{"harness/process", {"harness/os"}},
    Room{"harness/supervision", {"harness/process", "harness/os"}},
    Room{"harness/worker",
         {"harness/supervision", "harness/process", "harness/probe", "faults/point", "harness/os"}},
    Room{"pipelines",
         {"harness/worker", "harness/supervision", "harness/process", "harness/probe",
          "faults/point", "harness/os"}},
    Room{"faults", {"faults/point", "harness/probe", "harness/os"}},
    Room{"results", {"results/statistics", "harness/os"}},
    Room{"results/statistics", {"harness/os"}},
    Room{"results/report", {"results", "results/statistics", "harness/os"}},
    Room{"harness/experiment",
         {"faults", "faults/point", "results", "results/statistics", "results/report",
          "harness/worker", "harness/supervision", "harness/process", "harness/probe",
          "harness/os"}},
    Room{"harness/cli",
         {"harness/experiment", "faults", "faults/point", "results", "results/statistics",
          "results/report", "harness/worker", "harness/supervision", "harness/process",
          "harness/probe", "harness/os"}},
    Room{"benchmarks", {kEverything}},
    Room{"examples", {"harness/worker", "harness/supervision", "harness/os"}},
};
// Only files directly in `harness`, such as this one: they are about the whole tree.
constexpr Room kHouse{"harness", {kEverything}};

// Headers that take seconds to compile: each library is adapted in .cc files. Pipelines, whose
// business is images, may have OpenCV in theirs.
constexpr std::array kHeavyHeaders = {"boost/process", "nlohmann/json.hpp", "CLI/CLI.hpp",
                                      "opencv2/"};

// Places outside the tree, in two parts, so that this file keeps its own rule.
struct Elsewhere {
  std::string_view begin;
  std::string_view end;
};
constexpr std::array kElsewhere = {
    Elsewhere{"/wo", "rk/"},         Elsewhere{"/ro", "ot/"},
    Elsewhere{"../sha", "red"},      Elsewhere{"../.lib", "rary"},
    Elsewhere{"deb.debian", ".org"}, Elsewhere{"security.debian", ".org"},
    Elsewhere{"pypi", ".org"},       Elsewhere{"pythonhosted", ".org"},
    Elsewhere{"npmjs", ".org"},      Elsewhere{"npmjs", ".com"},
    Elsewhere{"crates", ".io"},      Elsewhere{"proxy.golang", ".org"},
    Elsewhere{"rubygems", ".org"},   Elsewhere{"maven.apache", ".org"},
    Elsewhere{"docker", ".io"},      Elsewhere{"ghcr", ".io"},
    Elsewhere{"quay", ".io"},        Elsewhere{"conan", ".io"},
};

constexpr std::size_t kMaxFileBytes = 1 << 20;
constexpr std::size_t kMaxColumns = 120;

bool is_cmake(std::string_view path) {
  return path.ends_with("CMakeLists.txt") || path.ends_with(".cmake");
}

// The same lines with what stands in raw strings left out: a test may hold a program there.
std::string without_raw_strings(const std::string& content) {
  static const std::regex kOpening(R"re(R"([^\s()\\]{0,16})\()re");
  std::string result;
  auto begin = content.cbegin();
  for (std::smatch match; std::regex_search(begin, content.cend(), match, kOpening);) {
    result.append(begin, match[0].second);
    const std::string closing = ")" + match[1].str() + "\"";
    const auto end = std::search(match[0].second, content.cend(), closing.begin(), closing.end());
    result.append(static_cast<std::size_t>(std::count(match[0].second, end, '\n')), '\n');
    begin = end;
  }
  return result.append(begin, content.cend());
}

struct Include {
  int line;
  std::string name;
  bool quoted;
};

std::vector<Include> includes_of(const File& file) {
  static const std::regex kInclude(R"re(^\s*#\s*include\s*(["<])([^">]+)[">])re");
  std::vector<Include> includes;
  int number = 0;
  for (const std::string& line : lines_of(without_raw_strings(file.content))) {
    ++number;
    std::smatch match;
    if (std::regex_search(line, match, kInclude)) {
      includes.push_back({number, match[2], match[1] == "\""});
    }
  }
  return includes;
}

const Room* room_of(const std::string& path) {
  const Room* best = directory_of(path) == kHouse.path ? &kHouse : nullptr;
  for (const Room& room : kRooms) {
    if (in_directory(path, room.path) && (!best || room.path.size() > best->path.size())) {
      best = &room;
    }
  }
  return best;
}

bool may_use(const Room& user, const Room& used) {
  return &user == &used || std::ranges::any_of(user.may_use, [&](std::string_view name) {
    return name == kEverything || name == used.path;
  });
}

// What is wrong with one project include, if anything.
std::optional<std::string> include_fault(const Tree& tree, const std::string& path,
                                         const Include& include) {
  if (!tree.contains(include.name)) {
    if (!include.quoted || tree.contains(include.name + ".in")) return std::nullopt;
    const std::string beside = normal(fs::path(directory_of(path)) / include.name);
    if (!tree.contains(beside)) return "no file " + include.name + ": name one of the tree";
    return "write the include from the root: #include \"" + beside + "\"";
  }
  if (!include.quoted) return "a file of the project: write \"" + include.name + "\" in quotes";
  const Room* user = room_of(path);
  const Room* used = room_of(include.name);
  if (!user || !used || may_use(*user, *used)) return std::nullopt;
  return std::string(user->path) + " may not use " + std::string(used->path) +
         ": move what is needed to a room below both, or the user to a room above";
}

// A token of a CMake file that names a source: resolved from the root, or nothing when it is
// generated or computed.
std::optional<std::string> source_named_by(std::string token, const std::string& directory) {
  fs::path base = directory;
  static const std::regex kFromRoot(R"(^\$\{(PROJECT|CMAKE|crashworthy)_SOURCE_DIR\}/)");
  static const std::regex kFromHere(R"(^\$\{CMAKE_CURRENT_(SOURCE|LIST)_DIR\}/)");
  if (std::regex_search(token, kFromRoot)) {
    token = std::regex_replace(token, kFromRoot, "");
    base.clear();
  } else {
    token = std::regex_replace(token, kFromHere, "");
  }
  static const std::regex kSource(R"([\w./\-]*\w\.cc)");
  if (!std::regex_match(token, kSource)) return std::nullopt;
  return normal(base / token);
}

std::vector<std::string> split(const std::string& text, std::string_view separator) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0, end = 0; end != std::string::npos; begin = end + separator.size()) {
    end = text.find(separator, begin);
    parts.push_back(text.substr(begin, end == std::string::npos ? end : end - begin));
  }
  return parts;
}

struct NamedSource {
  int line;
  std::string path;
};

std::vector<NamedSource> sources_named_in(const std::string& list, const File& file) {
  static const std::regex kToken(R"re([^\s()";]+)re");
  std::vector<NamedSource> named;
  int number = 0;
  for (const std::string& line : lines_of(file.content)) {
    ++number;
    const std::string code = line.substr(0, line.find('#'));
    for (std::sregex_iterator token(code.begin(), code.end(), kToken), end; token != end; ++token) {
      if (auto path = source_named_by(token->str(), directory_of(list))) {
        named.push_back({number, *path});
      }
    }
  }
  return named;
}

// Whether a slash behind `c` goes on with a path, rather than beginning one.
bool may_end_path_part(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) ||
         std::string_view("_.-})>]").find(c) != std::string_view::npos;
}

int line_at(const std::string& content, std::size_t position) {
  return 1 + static_cast<int>(std::count(
                 content.begin(), content.begin() + static_cast<std::ptrdiff_t>(position), '\n'));
}

std::size_t columns(std::string_view line) {
  return static_cast<std::size_t>(
      std::ranges::count_if(line, [](char c) { return (c & 0xc0) != 0x80; }));
}

}  // namespace

std::string Finding::text() const {
  return path + (line > 0 ? ":" + std::to_string(line) : "") + ": " + message;
}

Findings check_includes(const Tree& tree) {
  Findings findings;
  for (const auto& [path, file] : tree) {
    if (!is_source(path)) continue;
    for (const Include& include : includes_of(file)) {
      if (auto fault = include_fault(tree, path, include)) {
        findings.push_back({path, include.line, "#include " + include.name + ": " + *fault});
      }
    }
  }
  return findings;
}

Findings check_rooms(const Tree& tree) {
  Findings findings;
  std::set<std::string> told;
  for (const auto& [path, file] : tree) {
    if (!is_source(path) || room_of(path) || !told.insert(directory_of(path)).second) continue;
    findings.push_back({path, 0,
                        "its directory is in no room: move it, or add a row to kRooms in "
                        "harness/tidy_code.cc and to the table in CONTRIBUTING.md"});
  }
  return findings;
}

Findings check_room_table(const Tree& tree) {
  const std::string path = "CONTRIBUTING.md";
  const auto document = tree.find(path);
  Findings findings;
  std::map<std::string, std::set<std::string>> rows;  // As in the document.
  int number = 0;
  int table = 0;  // The line of its head.
  for (const std::string& line : lines_of(document == tree.end() ? "" : document->second.content)) {
    ++number;
    if (line.starts_with("| room |")) table = number;
    if (table > 0 && !line.starts_with('|')) break;
    const auto cells = split(line, " | ");
    if (table == 0 || number <= table + 1 || cells.size() != 3) continue;
    const std::string room = cells[0].substr(2);
    const std::string used = cells[2].substr(0, cells[2].rfind(" |"));
    for (const std::string& name : split(used, ", ")) rows[room].insert(name);
  }
  for (const Room& room : kRooms) {
    std::set<std::string> may_use;
    for (const std::string_view name : room.may_use) {
      if (!name.empty()) may_use.emplace(name == kEverything ? "everything" : name);
    }
    if (may_use.empty()) may_use.emplace("-");
    const auto row = rows.extract(std::string(room.path));
    if (row.empty() || row.mapped() != may_use) {
      findings.push_back({path, table,
                          "the row of " + std::string(room.path) +
                              " differs from kRooms in harness/tidy_code.cc: make them alike"});
    }
  }
  for (const auto& [room, used] : rows) {
    findings.push_back({path, table, room + " has no row in kRooms in harness/tidy_code.cc"});
  }
  return findings;
}

Findings check_headers(const Tree& tree) {
  Findings findings;
  for (const auto& [path, file] : tree) {
    if (!is_source(path)) continue;
    const auto includes = includes_of(file);
    if (!is_header(path)) {
      const std::string own = path.substr(0, path.size() - 2) + "h";
      if (tree.contains(own) && (includes.empty() || includes.front().name != own)) {
        findings.push_back(
            {path, includes.empty() ? 0 : includes.front().line,
             "include its own header first: that proves that " + own + " stands alone"});
      }
      continue;
    }
    if (("\n" + file.content).find("\n#pragma once\n") == std::string::npos) {
      findings.push_back({path, 1, "add #pragma once"});
    }
    if (in_directory(path, "pipelines") || path.ends_with("_test_util.h")) continue;
    for (const Include& include : includes) {
      const bool heavy = std::ranges::any_of(
          kHeavyHeaders, [&](const char* name) { return include.name.starts_with(name); });
      if (heavy) {
        findings.push_back({path, include.line,
                            "#include " + include.name +
                                ": too heavy for a header; include it in the "
                                ".cc file, forward declarations here"});
      }
    }
  }
  return findings;
}

Findings check_build_lists(const Tree& tree) {
  static const std::regex kGlob(R"(GLOB.*\.cc\b)");
  Findings findings;
  std::set<std::string> listed;
  for (const auto& [path, file] : tree) {
    if (!is_cmake(path)) continue;
    for (const NamedSource& named : sources_named_in(path, file)) {
      listed.insert(named.path);
      if (!tree.contains(named.path)) {
        findings.push_back({path, named.line, "no file " + named.path + ": mend the list"});
      }
    }
    int number = 0;
    for (const std::string& line : lines_of(file.content)) {
      ++number;
      if (std::regex_search(line, kGlob)) {
        findings.push_back({path, number, "list sources by hand: a glob hides what is missing"});
      }
    }
  }
  for (const auto& [path, file] : tree) {
    if (path.ends_with(".cc") && !listed.contains(path)) {
      findings.push_back({path, 0, "in no CMakeLists.txt: add it to a target, or remove it"});
    }
  }
  return findings;
}

Findings check_stands_alone(const Tree& tree) {
  Findings findings;
  for (const auto& [path, file] : tree) {
    if (file.content.find('\0') != std::string::npos) continue;  // An image, say.
    for (const Elsewhere& place : kElsewhere) {
      const std::string name = std::string(place.begin) + std::string(place.end);
      for (auto at = file.content.find(name); at != std::string::npos;
           at = file.content.find(name, at + 1)) {
        // What begins in the midst of a longer path is no path of a machine.
        const bool inside =
            name.starts_with('/') && at > 0 && may_end_path_part(file.content[at - 1]);
        if (inside) continue;
        findings.push_back({path, line_at(file.content, at),
                            name + " points outside the project: the tree must stand alone"});
      }
    }
  }
  return findings;
}

Findings check_files(const Tree& tree) {
  Findings findings;
  for (const auto& [path, file] : tree) {
    if (file.content.size() > kMaxFileBytes) {
      findings.push_back({path, 0, "larger than 1 MiB: make it when it is needed instead"});
    }
    if (file.content.starts_with("#!") && !file.executable) {
      findings.push_back({path, 0, "a script without the run bit: chmod +x " + path});
    }
    if (!is_source(path)) continue;
    const auto lines = lines_of(file.content);
    const auto wide = [](const std::string& line) { return columns(line) > kMaxColumns; };
    if (const auto first = std::ranges::find_if(lines, wide); first != lines.end()) {
      findings.push_back({path, static_cast<int>(first - lines.begin()) + 1,
                          "longer than " + std::to_string(kMaxColumns) + " columns, the first of " +
                              std::to_string(std::ranges::count_if(lines, wide)) +
                              ": clang-format -i " + path});
    }
  }
  return findings;
}

}  // namespace crashworthy::tidy
