// The rules of the tree: each is shown a planted tree that breaks it and one that keeps it, then
// all are applied to the tree that this test was built from.
#include "harness/tidy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <set>

#include "harness/os/wait_status.h"

namespace crashworthy::tidy {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// What the rule says of a tree, one text a finding.
std::vector<std::string> said(Findings (*rule)(const Tree&), const Tree& tree) {
  std::vector<std::string> texts;
  for (const Finding& finding : rule(tree)) texts.push_back(finding.text());
  return texts;
}

TEST(Includes, GoOnlyWhereTheTableOfRoomsAllows) {
  Tree tree = {{"harness/os/a.h", {}},
               {"harness/process/b.h", {"#include \"harness/os/a.h\"\n"}},
               {"harness/process/c.h", {"#include <vector>\n#include \"harness/process/b.h\"\n"}}};
  EXPECT_THAT(said(check_includes, tree), IsEmpty());
  tree["harness/os/a.h"].content = "// Up.\n#include \"harness/process/b.h\"\n";
  EXPECT_THAT(said(check_includes, tree),
              ElementsAre(HasSubstr("harness/os/a.h:2: #include harness/process/b.h: harness/os "
                                    "may not use harness/process")));
}

TEST(Includes, TheLongestRoomCounts) {
  Tree tree = {{"results/a.h", {}},
               {"results/statistics/b.h", {}},
               {"results/c.cc", {"#include \"results/statistics/b.h\"\n"}},
               {"results/report/d.cc", {"#include \"results/a.h\"\n"}},
               {"faults/point/point.h", {}},
               {"faults/e.cc", {"#include \"faults/point/point.h\"\n"}}};
  EXPECT_THAT(said(check_includes, tree), IsEmpty());
  tree["results/statistics/b.h"].content = "#include \"results/a.h\"\n";
  tree["faults/point/point.h"].content = "#include \"faults/e.cc\"\n";
  EXPECT_THAT(said(check_includes, tree),
              ElementsAre(HasSubstr("faults/point may not use faults"),
                          HasSubstr("results/statistics may not use results")));
}

TEST(Includes, TheHighestRoomsUseAllBelowAndNothingUsesThem) {
  Tree tree = {{"harness/cli/a.h", {"#include \"results/report/b.h\"\n"}},
               {"results/report/b.h", {}},
               {"benchmarks/micro/c.cc", {"#include \"harness/cli/a.h\"\n"}}};
  EXPECT_THAT(said(check_includes, tree), IsEmpty());
  tree["pipelines/tiles/d.cc"].content = "#include \"results/report/b.h\"\n";
  tree["harness/experiment/e.cc"].content = "#include \"harness/cli/a.h\"\n";
  EXPECT_THAT(said(check_includes, tree),
              ElementsAre(HasSubstr("harness/experiment may not use harness/cli"),
                          HasSubstr("pipelines may not use results/report")));
}

TEST(Includes, AreWrittenFromTheRootInQuotes) {
  const Tree tree = {{"harness/os/a.h", {}},
                     {"harness/os/a.cc", {"#include \"a.h\"\n"}},
                     {"harness/os/b.cc", {"#include <harness/os/a.h>\n"}},
                     {"harness/os/c.cc", {"#include \"harness/os/gone.h\"\n"}}};
  EXPECT_THAT(
      said(check_includes, tree),
      ElementsAre(HasSubstr("a.cc:1: #include a.h: write the include from the root: #include "
                            "\"harness/os/a.h\""),
                  HasSubstr("b.cc:1: #include harness/os/a.h: a file of the project"),
                  HasSubstr("c.cc:1: #include harness/os/gone.h: no file")));
}

TEST(Includes, OfAProgramInARawStringOrMadeByTheBuildAreLeftAlone) {
  const Tree tree = {
      {"harness/os/version.h.in", {}},
      {"harness/os/a.cc",
       {"#include \"harness/os/version.h\"\nauto s = R\"x(\n#include \"b.h\"\n)x\";\n"}},
      {"harness/os/c.cc", {"auto s = R\"(\n)\";\n#include \"b.h\"\n"}}};
  EXPECT_THAT(said(check_includes, tree), ElementsAre(HasSubstr("c.cc:3: #include b.h: no file")));
}

TEST(Rooms, ADirectoryWithoutARowIsTold) {
  const Tree tree = {{"harness/os/a.cc", {}},    {"harness/tidy_test.cc", {}},
                     {"pipelines/new/a.cc", {}}, {"harness/new/a.cc", {}},
                     {"harness/new/b.cc", {}},   {"tools/a.h", {}},
                     {"docs/a.md", {}}};
  EXPECT_THAT(said(check_rooms, tree), ElementsAre(HasSubstr("harness/new/a.cc: its directory is"),
                                                   HasSubstr("tools/a.h: its directory is")));
}

TEST(Rooms, TheTableInTheDocumentIsTheOneInUse) {
  auto real = read_tree(CRASHWORTHY_SOURCE_DIR);
  ASSERT_TRUE(real);
  std::string document = (*real)["CONTRIBUTING.md"].content;
  EXPECT_THAT(said(check_room_table, {{"CONTRIBUTING.md", {document}}}), IsEmpty());
  const std::string row = "| harness/probe | ";
  ASSERT_NE(document.find(row), std::string::npos);
  document.replace(document.find(row), row.size(), "| harness/other | ");
  EXPECT_THAT(said(check_room_table, {{"CONTRIBUTING.md", {document}}}),
              ElementsAre(HasSubstr("the row of harness/probe differs"),
                          HasSubstr("harness/other has no row in kRooms")));
  EXPECT_FALSE(check_room_table({}).empty());
}

TEST(Headers, AreGuarded) {
  EXPECT_THAT(said(check_headers, {{"results/a.h", {"// What.\n#pragma once\n"}}}), IsEmpty());
  EXPECT_THAT(said(check_headers, {{"results/a.h", {"// #pragma once\n"}}}),
              ElementsAre("results/a.h:1: add #pragma once"));
}

TEST(Headers, AreIncludedFirstByTheirOwnFile) {
  Tree tree = {{"results/a.h", {"#pragma once\n"}},
               {"results/a.cc", {"#include \"results/a.h\"\n\n#include <vector>\n"}},
               {"results/a_test.cc", {"#include <gtest/gtest.h>\n#include \"results/a.h\"\n"}}};
  EXPECT_THAT(said(check_headers, tree), IsEmpty());
  tree["results/a.cc"].content = "#include <vector>\n\n#include \"results/a.h\"\n";
  EXPECT_THAT(said(check_headers, tree),
              ElementsAre(HasSubstr("results/a.cc:1: include its own header first")));
}

TEST(Headers, KeepHeavyLibrariesOut) {
  const std::string guard = "#pragma once\n";
  Tree tree = {{"results/a.h", {guard + "#include <nlohmann/json_fwd.hpp>\n"}},
               {"results/b.cc", {"#include <nlohmann/json.hpp>\n#include <opencv2/core.hpp>\n"}},
               {"pipelines/tiles/c.h", {guard + "#include <opencv2/core.hpp>\n"}}};
  EXPECT_THAT(said(check_headers, tree), IsEmpty());
  for (const char* heavy : {"nlohmann/json.hpp", "CLI/CLI.hpp", "boost/process.hpp",
                            "boost/process/v2.hpp", "opencv2/core.hpp"}) {
    tree["results/a.h"].content = guard + "#include <" + heavy + ">\n";
    EXPECT_THAT(said(check_headers, tree),
                ElementsAre(HasSubstr("results/a.h:2: #include " + std::string(heavy) + ": too")));
  }
}

TEST(BuildLists, NameEverySourceAndOnlySources) {
  Tree tree = {{"CMakeLists.txt", {"add_subdirectory(faults)\n"}},
               {"faults/CMakeLists.txt",
                {"# gone.cc was here\nlibrary(a SOURCES a.cc\n  sub/b.cc \"${PROJECT_SOURCE_DIR}/"
                 "results/c.cc\" ${CMAKE_CURRENT_BINARY_DIR}/made.cc xxhash.h)\n"}},
               {"faults/a.cc", {}},
               {"faults/sub/b.cc", {}},
               {"results/c.cc", {}}};
  EXPECT_THAT(said(check_build_lists, tree), IsEmpty());
  tree["faults/forgotten_test.cc"];
  EXPECT_THAT(said(check_build_lists, tree),
              ElementsAre(HasSubstr("faults/forgotten_test.cc: in no CMakeLists.txt")));
  tree.erase("faults/forgotten_test.cc");
  tree.erase("faults/sub/b.cc");
  EXPECT_THAT(said(check_build_lists, tree),
              ElementsAre(HasSubstr("faults/CMakeLists.txt:3: no file faults/sub/b.cc")));
}

TEST(BuildLists, AreWrittenByHand) {
  EXPECT_THAT(said(check_build_lists, {{"CMakeLists.txt", {"file(GLOB sources *.cc)\n"}}}),
              ElementsAre(HasSubstr("CMakeLists.txt:1: list sources by hand")));
}

TEST(Documents, NameOnlyWhatExists) {
  Tree tree = {
      {".gitignore", {"/build/\n/results/runs/\n"}},
      {"results/history.h", {}},
      {"docs/guide.md",
       {"See `results/history.h`, `results/`, `results/history.h:12`; runs lie in\n"
        "`results/runs/1`, `build/dev/bin/crashworthy`, `results/NAME*`, `item/s`, `a b/c`.\n"}}};
  EXPECT_THAT(said(check_doc_paths, tree), IsEmpty());
  tree["docs/guide.md"].content += "And ``results/gone.h``.\n";
  tree["CHANGELOG.md"].content = "Removed `results/gone.h`.\n";
  EXPECT_THAT(said(check_doc_paths, tree),
              ElementsAre("docs/guide.md:3: no file results/gone.h: mend the document"));
}

TEST(Documents, LinkOnlyToWhatExists) {
  Tree tree = {
      {"README.md", {"[guide](docs/guide.md#a) [site](https://example.org/x) ![p](docs/p.png)\n"}},
      {"docs/p.png", {}},
      {"docs/guide.md",
       {"# A\n[up](../README.md) [here](#a) [room](../docs/) `[x](none.md)`\n"
        "```\n[x](none.md)\n```\n"}}};
  EXPECT_THAT(said(check_doc_paths, tree), IsEmpty());
  tree["docs/guide.md"].content += "[gone](README.md)\n";
  EXPECT_THAT(said(check_doc_paths, tree),
              ElementsAre("docs/guide.md:6: the link to README.md is dead: mend it"));
}

TEST(Documents, NameOnlyOptionsThatTheProgramKnows) {
  Tree tree = {{"harness/cli/run.cc", {"add_option(\"--seed,-s\"); add_flag(\"--dry-run\");\n"}},
               {"scripts/test", {"  --long   full counts\n"}},
               {"README.md",
                {"Use `crashworthy run --seed 1 [--dry-run] --help`, `--elsewhere`,\n"
                 "`scripts/test --long`.\n"
                 "```sh\n$ crashworthy run --seed=1 \\\n    --dry-run -- convert "
                 "--quality 3\nconvert --quality 3\n```\n"}}};
  EXPECT_THAT(said(check_doc_options, tree), IsEmpty());
  tree["README.md"].content +=
      "`crashworthy run --dry`, `scripts/test --all`\n"
      "```\nbuild/release/bin/crashworthy run a \\\n  --seeds 2\n```\n";
  EXPECT_THAT(said(check_doc_options, tree),
              ElementsAre(HasSubstr("README.md:8: crashworthy (the sources in harness/cli) does "
                                    "not know --dry:"),
                          HasSubstr("README.md:8: scripts/test does not know --all"),
                          HasSubstr("README.md:10: crashworthy (the sources in harness/cli) does "
                                    "not know --seeds")));
}

TEST(Documents, CopyFilesAsTheyAre) {
  Tree tree = {{"examples/a/main.cc", {"int main() {\n}\n"}},
               {"docs/guide.md",
                {"So:\n\n<!-- examples/a/main.cc -->\n```cpp\nint main() {\n}\n```\n"
                 "<!-- a remark -->\n```\nanything\n```\n"}}};
  EXPECT_THAT(said(check_doc_copies, tree), IsEmpty());
  tree["examples/a/main.cc"].content = "int main() {}\n";
  tree["docs/guide.md"].content += "<!-- examples/gone.cc -->\n```\n```\n";
  EXPECT_THAT(
      said(check_doc_copies, tree),
      ElementsAre("docs/guide.md:3: the block is not what examples/a/main.cc is: copy it again",
                  "docs/guide.md:12: no file examples/gone.cc"));
}

TEST(StandsAlone, NoPathOfAMachineAndNoRegistry) {
  // In two parts here and below: this file is in the tree too.
  const std::string inside = std::string("/wo") + "rk/x";
  Tree tree = {
      {"a.cc", {"open(\"build" + inside + "\"); // see https://example.org" + inside + "\n"}},
      {"picture.png", {std::string("\0/wo", 4) + "rk/"}}};
  EXPECT_THAT(said(check_stands_alone, tree), IsEmpty());
  for (const std::string& place :
       {std::string("/wo") + "rk/main", std::string("../sha") + "red/PLAN.md",
        std::string("https://registry.npm") + "js.org/x",
        std::string("http://deb.deb") + "ian.org"}) {
    tree["a.cc"].content = "\n// see \"" + place + "\"\n";
    EXPECT_THAT(said(check_stands_alone, tree), ElementsAre(HasSubstr("a.cc:2: "))) << place;
  }
}

TEST(Files, HaveABoundedSizeAndWidthAndScriptsRun) {
  Tree tree = {{"results/a.cc", {std::string(118, 'x') + "\u00b5\u00b5\n"}},  // 120 columns.
               {"scripts/run", {"#!/bin/sh\n", true}},
               {"data.bin", {std::string(1 << 20, 'x')}}};
  EXPECT_THAT(said(check_files, tree), IsEmpty());
  tree["results/a.cc"].content = "\n" + std::string(121, 'x') + "\n";
  tree["scripts/run"].executable = false;
  tree["data.bin"].content += 'x';
  EXPECT_THAT(said(check_files, tree),
              ElementsAre(HasSubstr("data.bin: larger than 1 MiB"),
                          HasSubstr("results/a.cc:2: longer than 120 columns"),
                          HasSubstr("scripts/run: a script without the run bit")));
}

TEST(ReadTree, LeavesOutWhatIsMade) {
  std::string pattern = (fs::temp_directory_path() / "crashworthy-tidy-XXXXXX").string();
  const fs::path root = ::mkdtemp(pattern.data());
  for (const char* path : {".gitignore", ".clang-format", "harness/a.cc", ".ci/run", "build/b.cc",
                           ".git/c", "my-build/CMakeCache.txt", "my-build/d.cc"}) {
    fs::create_directories((root / path).parent_path());
    std::ofstream(root / path) << "/build/\n";
  }
  fs::permissions(root / ".ci/run", fs::perms::owner_all);
  fs::create_symlink("build/b.cc", root / "link.cc");
  const auto tree = read_tree(root);
  fs::remove_all(root);
  ASSERT_TRUE(tree);
  std::vector<std::string> paths;
  for (const auto& [path, file] : *tree) {
    paths.push_back(path);
    EXPECT_EQ(file.executable, path == ".ci/run") << path;
  }
  EXPECT_THAT(paths, ElementsAre(".ci/run", ".clang-format", ".gitignore", "harness/a.cc"));
}

TEST(ReadTree, AMissingTreeIsAnError) { EXPECT_FALSE(read_tree("/nonexistent/tree")); }

// The real tree. One test a rule, so that a report names what is broken.
class ThisTree : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    auto read = read_tree(CRASHWORTHY_SOURCE_DIR);
    ASSERT_TRUE(read) << read.error().message;
    tree_ = std::move(*read);
    ASSERT_TRUE(tree_.contains("harness/tidy_test.cc")) << "not the tree of this test";
  }
  // A failure for each finding, at its place.
  static void expect_clean(Findings (*rule)(const Tree&)) {
    for (const Finding& finding : rule(tree_)) {
      ADD_FAILURE_AT(finding.path.c_str(), finding.line) << finding.message;
    }
  }
  static Tree tree_;
};
Tree ThisTree::tree_;

TEST_F(ThisTree, IncludesGoTheRightWay) { expect_clean(check_includes); }
TEST_F(ThisTree, SourcesLieInRooms) { expect_clean(check_rooms); }
TEST_F(ThisTree, TableOfRoomsIsTrue) { expect_clean(check_room_table); }
TEST_F(ThisTree, HeadersAreLightAndGuarded) { expect_clean(check_headers); }
TEST_F(ThisTree, SourcesAreBuilt) { expect_clean(check_build_lists); }
TEST_F(ThisTree, DocumentsNameWhatExists) { expect_clean(check_doc_paths); }
TEST_F(ThisTree, DocumentsNameOptionsThatExist) { expect_clean(check_doc_options); }
TEST_F(ThisTree, DocumentsCopyFilesAsTheyAre) { expect_clean(check_doc_copies); }
TEST_F(ThisTree, StandsAlone) { expect_clean(check_stands_alone); }
TEST_F(ThisTree, FilesKeepTheirBounds) { expect_clean(check_files); }

// Output and status of a shell command in the source tree.
struct Ran {
  std::string output;
  WaitStatus status;
};

Ran run(const std::string& command) {
  const std::string in_tree = "cd '" CRASHWORTHY_SOURCE_DIR "' && " + command + " 2>&1";
  FILE* pipe = ::popen(in_tree.c_str(), "r");
  if (!pipe) return {"unable to start a shell", WaitStatus::from_raw(-1)};
  std::string output;
  char buffer[4096];
  while (const std::size_t size = std::fread(buffer, 1, sizeof buffer, pipe)) {
    output.append(buffer, size);
  }
  return {output, WaitStatus::from_raw(::pclose(pipe))};
}

TEST_F(ThisTree, IsLaidOutByClangFormat) {
  std::string formatter;
  for (const char* name : {"clang-format-14", "clang-format"}) {
    const Ran version = run(std::string(name) + " --version");
    if (formatter.empty() && version.output.find("version 14.") != std::string::npos) {
      formatter = name;
    }
  }
  if (formatter.empty()) GTEST_SKIP() << "clang-format 14 is not here (package clang-format-14)";
  std::string sources;
  for (const auto& [path, file] : tree_) {
    if (is_source(path)) sources += " '" + path + "'";
  }
  const Ran checked = run(formatter + " --dry-run -Werror" + sources);
  std::set<std::string>
      files;  // A line a violation is too much to read: the repair is one command.
  for (const std::string& line : lines_of(checked.output)) {
    if (line.find(": error:") != std::string::npos) files.insert(line.substr(0, line.find(':')));
  }
  for (const std::string& file : files) {
    ADD_FAILURE_AT(file.c_str(), 0)
        << "not laid out by .clang-format: " << formatter << " -i " << file;
  }
  EXPECT_TRUE(checked.status.success() || !files.empty()) << checked.output;
}

}  // namespace
}  // namespace crashworthy::tidy
