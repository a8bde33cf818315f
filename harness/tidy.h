// The rules of the source tree that no compiler checks: who may include whom, what is listed in
// the build, what the documents may name. CONTRIBUTING.md says them in words.
//
// Each rule is a function from a tree in memory to what it found wrong, so a test can plant both a
// tree that breaks it and one that keeps it.
#pragma once

#include <string>
#include <vector>

#include "harness/tidy_tree.h"

namespace crashworthy::tidy {

struct Finding {
  std::string path;
  int line = 0;         // From 1; 0 means the whole file.
  std::string message;  // What is wrong, and what to do.

  // path:line: message
  std::string text() const;
};
using Findings = std::vector<Finding>;

// Project includes: written from the root, naming a file, and only of rooms that the file's room
// may use.
Findings check_includes(const Tree& tree);
// Sources lie in a room that has a row in the table.
Findings check_rooms(const Tree& tree);
// The table of rooms in CONTRIBUTING.md is the one that the rules use.
Findings check_room_table(const Tree& tree);
// Headers are guarded, a .cc file includes its own header first (which proves that it stands
// alone), and heavy libraries stay out of headers.
Findings check_headers(const Tree& tree);
// Every .cc file is named in a CMakeLists.txt, every file named there exists, none is globbed.
Findings check_build_lists(const Tree& tree);
// Paths in code spans and targets of links exist.
Findings check_doc_paths(const Tree& tree);
// Options in command lines of crashworthy and of scripts exist.
Findings check_doc_options(const Tree& tree);
// A block of code behind a comment that names a file (`<!-- examples/a/main.cc -->`) is that file.
Findings check_doc_copies(const Tree& tree);
// Nothing points outside: no path of one machine, no package registry.
Findings check_stands_alone(const Tree& tree);
// Sizes of files and lines, run bits of scripts.
Findings check_files(const Tree& tree);

}  // namespace crashworthy::tidy
