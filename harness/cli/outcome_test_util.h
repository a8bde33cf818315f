// The table of expected outcomes, and the programs on which its faults are tried.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "harness/cli/program_test_util.h"

namespace crashworthy::testing {

namespace fs = std::filesystem;
using nlohmann::json;

inline constexpr uid_t kNobody = 65534;
inline constexpr const char* kPrograms[] = {"plain_static", "plain_opencv", "plain.py", "tiles"};
inline constexpr const char* kUnreachable = "-";  // The fault needs what the program does not have.

inline const json& table() {
  static const json rows = [] {
    std::ifstream file(std::string(CRASHWORTHY_SOURCE_DIR) + "/harness/cli/outcomes.json");
    return json::parse(file);
  }();
  return rows;
}

inline bool is_long() { return ::getenv("CRASHWORTHY_LONG") != nullptr; }

// The few photographs that every program works on for about a second, tiles for about three.
inline std::vector<std::string> command_of(const std::string& program, const std::string& out) {
  const std::string path = fs::path(crashworthy_program()).parent_path() / program;
  if (program == "tiles") {
    return {path,     "--output", out,     "--supervision", "one_for_one",
            "--slow", "3000",     "--ops", "median:5",      "in"};
  }
  return {path, "in", out, program == "plain_opencv" ? "4" : "8", "20"};
}

// When a fault of ours strikes: the program has started, and is far from its end.
inline std::string after_of(const std::string& program) {
  if (program == "tiles") return "1200ms";  // Its workers have told of themselves by then.
  if (program == "plain_static") return "150ms";
  return program == "plain.py" ? "400ms" : "600ms";
}

inline void make_inputs(const fs::path& directory) {
  fs::create_directories(directory / "in");
  fs::create_directories(directory / "out");
  const fs::path photographs = "/usr/share/doc/opencv-doc/examples/data";
  int copied = 0;
  for (const char* name : {"HappyFish.jpg", "aero1.jpg", "LinuxLogo.jpg", "WindowsLogo.jpg",
                           "Blender_Suzanne1.jpg", "Blender_Suzanne2.jpg"}) {
    std::error_code missing;
    for (const fs::path& from : {photographs / name, photographs.parent_path() / name})
      copied += fs::copy_file(from, directory / "in" / name, missing);
  }
  if (copied < 6) GTEST_SKIP() << "Debian package opencv-doc is not installed";
  for (const auto& path : {directory / "in", directory / "out"})
    fs::permissions(path, fs::perms::all);
}

// The options of a row for that program.
inline std::vector<std::string> words_of(const json& row, const std::string& program) {
  std::vector<std::string> words;
  std::istringstream more(row.value("words", ""));
  for (std::string word; more >> word;) {
    const std::size_t at = word.find("{after}");
    if (at != std::string::npos) word.replace(at, 7, after_of(program));
    words.push_back(word);
  }
  return words;
}

}  // namespace crashworthy::testing
