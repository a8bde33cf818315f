// The program as a user meets it: exit codes, clear errors, planted sins, disarmed runs, and
// commands that stop half-way.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "harness/cli/program_test_util.h"
#include "harness/os/file.h"

namespace crashworthy::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr uid_t kNobody = 65534;

class Program : public ::testing::Test {
 protected:
  Finished crashworthy(std::vector<std::string> words) {
    words.insert(words.begin(), crashworthy_program());
    return run_program(words, directory_.path());
  }
  void write(const std::string& name, const std::string& text, bool executable = false) {
    const fs::path file = directory_.path() / name;
    fs::create_directories(file.parent_path());
    std::ofstream(file) << text;
    if (executable)
      fs::permissions(file, fs::perms::owner_all | fs::perms::group_read | fs::perms::group_exec);
  }
  json summary(const std::string& run) {
    return json::parse(*read_file(directory_.path() / run / "summary.json"));
  }

  TemporaryDirectory directory_;
};

std::string tree(const std::string& name) {
  return std::string(CRASHWORTHY_SOURCE_DIR) + "/benchmarks/experiments/" + name;
}

TEST_F(Program, ReportsTheCanarysSinsAsExactlyThose) {
  const Finished run = crashworthy({"run", "--quiet", "--out", "r", tree("canary.json")});
  EXPECT_EQ(run.exit_code, 0) << run.out << run.err;
  const json cells = summary("r")["cells"];
  ASSERT_EQ(cells.size(), 2u);
  const json honest{{"offered", 20},       {"ok", 20},        {"corrupt", 0},    {"failed", 0},
                    {"lost", 0},           {"unfinished", 0}, {"duplicated", 0}, {"misplaced", 0},
                    {"redone", 0},         {"torn", 0},       {"empty", 0},      {"extra", 0},
                    {"stale_temporary", 0}};
  json sinner = honest;
  sinner.update({{"ok", 18}, {"corrupt", 1}, {"lost", 1}, {"duplicated", 1}, {"misplaced", 1}});
  EXPECT_EQ(cells[0]["items"], honest);
  EXPECT_EQ(cells[1]["items"], sinner);
}

TEST_F(Program, AnExpectationThatIsFalseFails) {
  json experiment = json::parse(*read_file(tree("canary.json")));
  experiment["expect"] = {"sinner.none.items.lost == 0"};
  write("e.json", experiment.dump());
  const Finished run = crashworthy({"run", "--quiet", "--out", "r", "e.json"});
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.out, HasSubstr("FAIL"));
}

constexpr const char* kCanaryKill = R"({"experiment": "c", "subject": {"pipeline": "canary"},
  "faults": [{"name": "kill", "fault": "process.kill", "victim": {"holding_item": true},
              "when": {"item": 6}}], "blocks": 2})";

TEST_F(Program, AKillIsConfirmedAndADisarmedOneIsNot) {
  write("e.json", kCanaryKill);
  const Finished run = crashworthy({"run", "--quiet", "--out", "armed", "e.json"});
  EXPECT_EQ(run.exit_code, 0) << run.out << run.err;
  const json cell = summary("armed")["cells"][1];
  EXPECT_EQ(cell["confirmed"], 2);
  EXPECT_EQ(cell["recovered"], 0);
  EXPECT_EQ(cell["items"]["ok"], 10);
  EXPECT_EQ(cell["items"]["unfinished"], 30);
  const Finished disarmed =
      crashworthy({"run", "--quiet", "--disarm", "--out", "disarmed", "e.json"});
  EXPECT_EQ(disarmed.exit_code, 3) << disarmed.out << disarmed.err;
  const json other = summary("disarmed")["cells"][1];
  EXPECT_EQ(other["confirmed"], 0);
  EXPECT_EQ(other["injections"]["not_activated"], 2);
  EXPECT_EQ(other["items"]["ok"], 40);
}

TEST_F(Program, AFaultWhoseMomentNeverComesIsInconclusive) {
  json experiment = json::parse(kCanaryKill);
  experiment["faults"][0]["when"]["item"] = 21;
  write("e.json", experiment.dump());
  const Finished run = crashworthy({"run", "--quiet", "--out", "r", "e.json"});
  EXPECT_EQ(run.exit_code, 3);
  EXPECT_EQ(summary("r")["cells"][1]["injections"]["not_activated"], 2);
}

TEST_F(Program, ASubjectThatExitsZeroHalfWayLosesItems) {
  write("e.json", R"({"experiment": "c", "subject": {"pipeline": "canary"}, "blocks": 1,
    "arms": [{"name": "honest"}, {"name": "half", "arguments": ["--half-way"]},
             {"name": "hung", "arguments": ["--hang"]}], "timeout": "1s",
    "expect": ["half.none.items.lost == 10", "hung.none.items.unfinished == 10"]})");
  EXPECT_EQ(crashworthy({"run", "--quiet", "--out", "r", "e.json"}).exit_code, 0);
  const json cells = summary("r")["cells"];
  EXPECT_EQ(cells[1]["items"]["lost"], 10) << "it said that it was done";
  EXPECT_EQ(cells[2]["items"]["unfinished"], 10) << "it was still running when its time was over";
}

TEST_F(Program, ItsDirectoryMayBeNamedAsAGlobIs) {
  write("a[1]*/in/f", "content");
  const Finished run = run_program({crashworthy_program(), "run", "--quiet", "--blocks", "1",
                                    "--out", "r", "--fault", "process.kill", "--when", "after=50ms",
                                    "--inputs", "in/*", "--", "sh", "-c", "sleep 0.2; cp in/f o"},
                                   directory_.path() / "a[1]*");
  EXPECT_EQ(run.exit_code, 0) << run.err;
}

// What it leaves cannot be read, or is gone, and then it cannot be run again either.
TEST_F(Program, ADirectoryThatATrialSpoilsEndsThatTrialAlone) {
  for (const char* deed : {"mkdir d; chmod 0 d", "rm -rf \"$PWD\"; sleep 3"}) {
    write("count", "");
    const std::string count = (directory_.path() / "count").string();
    const std::string out = std::string("r") + deed[0];
    const Finished run =
        crashworthy({"run", "--quiet", "--blocks", "1", "--seed", "1", "--rerun", "--out", out,
                     "--fault", "process.kill", "--when", "after=400ms", "--", "sh", "-c",
                     "echo x >> " + count + "; sleep 0.2; echo x > o; if [ $(wc -l < " + count +
                         ") -gt 2 ]; then " + deed + "; fi; sleep 0.4"});
    EXPECT_NE(run.exit_code, 5) << run.err;
    EXPECT_EQ(summary(out)["cells"].size(), 2u) << run.err;
  }
}

TEST_F(Program, AnInputThatMayNotBeReadIsTheUsersError) {
  if (::getuid() != 0) GTEST_SKIP() << "root makes the input that another may not read";
  write("in", "secret");
  fs::permissions(directory_.path() / "in", fs::perms::none);
  fs::permissions(directory_.path(), fs::perms::all);
  const Finished run =
      run_program({crashworthy_program(), "run", "--quiet", "--out", "r", "--fault", "process.kill",
                   "--inputs", "in", "--", "sh", "-c", "sleep 0.2; echo x > o"},
                  directory_.path(), 60, kNobody);
  EXPECT_EQ(run.exit_code, 64) << run.err;
  EXPECT_THAT(run.err, HasSubstr("may not be read"));
}

TEST_F(Program, ASignalThatIsIgnoredStaysIgnored) {
  const std::string words = crashworthy_program() +
                            " run --quiet --blocks 1 --out r --fault process.kill --when "
                            "after=100ms -- sh -c 'sleep 0.5; echo x > o'";
  const Finished run = run_program(
      {"/bin/sh", "-c", "trap '' HUP; " + words + " & p=$!; sleep 0.8; kill -HUP $p; wait $p"},
      directory_.path());
  EXPECT_EQ(run.exit_code, 0) << run.err;
}

// Its answer to a signal is a flood, of 100 MB or of 1.
TEST_F(Program, ATrialThatTakesTooMuchOfTheDiskIsEnded) {
  for (const bool flooded : {true, false}) {
    const std::string size = flooded ? "100M" : "1M";
    const std::string line = "trap 'head -c " + size +
                             " /dev/zero > out/flood; sleep 3; exit 1' TERM; echo 1 > out/a; "
                             "sleep 0.7 & wait; echo 1 > out/b";
    const json experiment{
        {"experiment", "flood"},
        {"subject", {{"command", {"sh", "-c", line}}, {"outputs", {"out/[ab]"}}}},
        {"faults",
         {{{"fault", "process.term"}, {"when", {{"event", "first_output"}}}, {"name", "term"}}}},
        {"blocks", 1},
        {"disk", flooded ? "32M" : "4G"}};
    write("e.json", experiment.dump());
    const std::string out = "r" + size;
    const Finished run = crashworthy({"run", "--quiet", "--out", out, "e.json"});
    // Ended so early, nobody knows whether it would have heeded the signal.
    EXPECT_EQ(run.exit_code, flooded ? 3 : 0) << run.err;
    std::string histories;
    for (const char* trial : {"0001", "0002"})
      histories += *read_file(directory_.path() / out / "trials" / trial / "history.jsonl");
    EXPECT_EQ(histories.find("took more than 32 MiB of the disk") != std::string::npos, flooded);
    EXPECT_EQ(summary(out)["cells"][1]["items"]["ok"], 1);
    EXPECT_EQ(summary(out)["cells"][1]["stalls"].value("disk", 0), flooded ? 1 : 0);
  }
}

TEST_F(Program, TestsAnyCommand) {
  write("copy.sh", "#!/bin/sh\nfor f in in/*; do sleep 0.05; cp $f out/; done\n", true);
  for (const char* name : {"in/a", "in/b", "in/c", "in/d"})
    write(name, std::string("content of ") + name);
  const Finished run =
      crashworthy({"run", "--quiet", "--blocks", "2", "--out", "r", "--fault", "process.kill",
                   "--victim", "role=main", "--when", "after=120ms", "--inputs", "in/*",
                   "--outputs", "out/*", "--", "./copy.sh"});
  EXPECT_EQ(run.exit_code, 0) << run.out << run.err;
  const json cells = summary("r")["cells"];
  EXPECT_EQ(cells[0]["items"]["ok"], 8);
  EXPECT_EQ(cells[1]["fault"], "process.kill");
  EXPECT_EQ(cells[1]["confirmed"], 2);
  EXPECT_EQ(cells[1]["items"]["offered"], 8);
  EXPECT_GT(cells[1]["items"]["unfinished"], 0);
  EXPECT_FALSE(fs::exists(directory_.path() / "out" / "a"))
      << "a trial never writes into the user's directory";
}

// The same command bare and under a supervision tree: what was killed is done by the next
// incarnation, and the tree's own process is another victim.
TEST_F(Program, ASupervisedCommandIsRestarted) {
  const std::vector<std::string> command = {
      "--", "sh", "-c", "for i in 1 2 3 4; do echo $i > out/$i; sleep 0.05; done"};
  const auto run_with = [&](const char* out, std::vector<std::string> options) {
    std::vector<std::string> words = {"run",   "--quiet",   "--blocks",    "2",
                                      "--out", out,         "--supervise", "--seed",
                                      "1",     "--outputs", "out/*"};
    words.insert(words.end(), options.begin(), options.end());
    words.insert(words.end(), command.begin(), command.end());
    return crashworthy(words);
  };
  const Finished run = run_with("r", {"--fault", "process.kill", "--when", "after=100ms"});
  EXPECT_EQ(run.exit_code, 0) << run.out << run.err;
  json cells = summary("r")["cells"];
  ASSERT_EQ(cells.size(), 4u) << cells;
  for (const json& cell : cells) {
    const bool faulted = cell["fault"] != "none";
    const bool lost = cell["arm"] == "bare" && faulted;
    EXPECT_EQ(cell["confirmed"], faulted ? 2 : 0) << cell;
    EXPECT_EQ(cell["items"]["ok"] == 8, !lost) << cell;
    EXPECT_EQ(cell["items"]["unfinished"] == 0, !lost) << cell;
  }
  const Finished supervisor = run_with(
      "s", {"--fault", "process.kill", "--victim", "role=supervisor", "--when", "after=100ms"});
  EXPECT_EQ(supervisor.exit_code, 3) << "the bare arm has no supervisor" << supervisor.err;
  cells = summary("s")["cells"];
  for (const json& cell : cells) {
    if (cell["arm"] != "restart" || cell["fault"] == "none") continue;
    EXPECT_EQ(cell["confirmed"], 2) << cell;
    EXPECT_GT(cell["items"]["unfinished"], 0) << "nobody restarts the supervisor";
  }
  const Finished cost = run_with("c", {});
  EXPECT_EQ(cost.exit_code, 0) << "without a fault: what it costs" << cost.out << cost.err;
}

TEST_F(Program, AnArmHasItsOwnCommandAndIsSkippedByItsPackageWhenSomethingIsMissing) {
  write("cp.sh", "#!/bin/sh\nfor f in in/*; do cat $f > out/${f#in/}; done\n", true);
  write("rev.sh", "#!/bin/sh\nfor f in in/*; do cp $f out/; done\n", true);
  write("in/a", "a");
  write("in/b", "b");
  write("e.json", R"({"experiment": "n", "blocks": 1,
    "subject": {"command": ["./missing"], "inputs": ["in/*"], "outputs": ["out/*"]},
    "arms": [{"name": "absent", "needs": [{"program": "no-such-thing", "package": "no-package"}]},
             {"name": "first", "command": ["./cp.sh"], "needs": [{"program": "sh", "package": "dash"}]},
             {"name": "other", "command": ["./rev.sh"]}],
    "expect": ["first.none.items.lost == 0", "other.none.items.lost == 0"]})");
  const Finished run = crashworthy({"run", "--out", "r", "e.json"});
  EXPECT_EQ(run.exit_code, 0) << run.out << run.err;
  const std::string reason = "no-such-thing is missing (package no-package)";
  EXPECT_THAT(run.err, HasSubstr("arm 'absent' is skipped: " + reason));
  EXPECT_THAT(run.out, HasSubstr("no-package"));
  const json found = summary("r");
  EXPECT_EQ(found["skipped_arms"], json::array({{{"arm", "absent"}, {"reason", reason}}}));
  ASSERT_EQ(found["cells"].size(), 2u);
  for (const json& cell : found["cells"]) EXPECT_EQ(cell["items"]["ok"], 2) << cell["arm"];
  const json plan = json::parse(*read_file(directory_.path() / "r" / "plan.json"));
  EXPECT_EQ(plan["skipped_arms"], found["skipped_arms"]);
  EXPECT_THAT(*read_file(directory_.path() / "r" / "report.html"), HasSubstr("no-package"));
}

TEST_F(Program, ACommandsInputsAreNotItsOutputs) {
  for (const char* name : {"in/a", "in/b"}) write(name, std::string("content of ") + name);
  const Finished run =
      crashworthy({"run", "--quiet", "--blocks", "2", "--out", "r", "--fault", "process.kill",
                   "--when", "after=50ms", "--inputs", "in/*", "--", "sh", "-c",
                   "sleep 0.2; for f in a b; do cp in/$f $f.copy; done"});
  EXPECT_EQ(run.exit_code, 0) << run.out << run.err;
  const json cells = summary("r")["cells"];
  EXPECT_EQ(cells[0]["items"]["duplicated"], 0);
  EXPECT_EQ(cells[1]["recovered"], 0) << "nothing was written before the kill";
  EXPECT_EQ(cells[1]["items"]["unfinished"], 4);
}

// Its first two runs agree, and so it passes the gate.
TEST_F(Program, ASubjectThatDiffersWithoutAFaultIsInconclusive) {
  const std::string runs = (directory_.path() / "runs").string();
  const std::string line = "sleep 0.1; echo x >> " + runs + "; [ $(wc -l < " + runs +
                           ") -gt 2 ] && echo other > o || echo same > o";
  const Finished run =
      crashworthy({"run", "--quiet", "--blocks", "1", "--out", "r", "--fault", "process.kill",
                   "--when", "after=[20ms,60ms]", "--", "sh", "-c", line});
  EXPECT_EQ(run.exit_code, 3) << run.out << run.err;
  EXPECT_THAT(summary("r")["reasons"][0].get<std::string>(),
              HasSubstr("differ from the golden run"));
}

TEST_F(Program, AStartThatFailsTouchesNothingOfTheUsers) {
  write("mine/golden/precious", "x");
  EXPECT_EQ(
      crashworthy({"run", "--out", "mine", "--fault", "process.kill", "--", "true"}).exit_code, 64);
  EXPECT_TRUE(fs::exists(directory_.path() / "mine" / "golden" / "precious"));
  fs::create_directories(directory_.path() / "empty");
  EXPECT_EQ(crashworthy({"run", "--out", "empty", "--fault", "process.kill", "--", "./nowhere"})
                .exit_code,
            64);
  EXPECT_TRUE(fs::is_empty(directory_.path() / "empty"));
}

TEST_F(Program, ReportAndCompareWorkOnARun) {
  ASSERT_EQ(crashworthy({"run", "--quiet", "--out", "r", tree("canary.json")}).exit_code, 0);
  const std::string before = *read_file(directory_.path() / "r" / "summary.json");
  fs::remove(directory_.path() / "r" / "summary.json");
  EXPECT_EQ(crashworthy({"report", "r"}).exit_code, 0);
  EXPECT_EQ(*read_file(directory_.path() / "r" / "summary.json"), before)
      << "computed again from the histories alone";
  const Finished dump = crashworthy({"report", "--dump", "r"});
  EXPECT_EQ(dump.exit_code, 0);
  std::istringstream lines(dump.out);
  int judged = 0;
  for (std::string line; std::getline(lines, line);)
    judged += json::parse(line).value("event", "") == "judged" ? 1 : 0;
  EXPECT_EQ(judged, 40);
  EXPECT_EQ(crashworthy({"compare", "r", "r"}).exit_code, 4) << "the canary has no gate";
}

TEST_F(Program, AForeignOrRepeatedTrialIsNotCounted) {
  ASSERT_EQ(crashworthy({"run", "--quiet", "--out", "r", tree("canary.json")}).exit_code, 0);
  const fs::path trials = directory_.path() / "r" / "trials";
  fs::remove_all(trials / "0002");
  fs::copy(trials / "0001", trials / "0002", fs::copy_options::recursive);
  const Finished report = crashworthy({"report", "r"});
  EXPECT_EQ(report.exit_code, 3) << report.out;
  EXPECT_THAT(report.out, HasSubstr("is there twice"));
}

TEST_F(Program, HostileJsonGetsAnError) {
  write("deep.json", R"({"experiment": "x", "seed": )" + std::string(100'000, '[') +
                         std::string(100'000, ']') + "}");
  EXPECT_EQ(crashworthy({"run", "deep.json"}).exit_code, 64);
  EXPECT_EQ(crashworthy({"run", "/dev/zero"}).exit_code, 64);
  EXPECT_EQ(crashworthy({"run", "."}).exit_code, 64);
  EXPECT_EQ(crashworthy({"run", "--out", "o", "--fault", "process.kill", "--", "\xff"}).exit_code,
            64);
}

// A subject that scribbles over the memory it shares with us harms only its own trial.
TEST_F(Program, ASubjectCannotHarmTheHarnessThroughItsMemory) {
  for (const char* harm :
       {"import os; os.ftruncate(100, 0)",
        "import os,mmap; m=mmap.mmap(100, 4096); m[8:16]=b'\\xff'*8; m[64:72]=b'\\xff'*8"}) {
    write("harm.py", std::string("import time,sys\nopen('out','w').write('x')\ntry:\n  ") + harm +
                         "\nexcept Exception: pass\ntime.sleep(0.2)\n");
    fs::remove_all(directory_.path() / "r");
    const Finished run = crashworthy({"run", "--quiet", "--blocks", "1", "--out", "r", "--fault",
                                      "process.kill", "--when", "after=100ms", "--inputs",
                                      "harm.py", "--", "/usr/bin/python3", "harm.py"});
    if (run.exit_code == 64) GTEST_SKIP() << "no python3 here: " << run.err;
    EXPECT_EQ(run.exit_code, 0) << harm << run.out << run.err;
  }
}

TEST_F(Program, RefusesARunDirectoryThatHoldsARun) {
  ASSERT_EQ(crashworthy({"run", "--quiet", "--out", "r", tree("canary.json")}).exit_code, 0);
  const Finished again = crashworthy({"run", "--quiet", "--out", "r", tree("canary.json")});
  EXPECT_EQ(again.exit_code, 64);
  EXPECT_THAT(again.err, HasSubstr("holds another run"));
}

// Every fault is in each of the forms in which the catalogue is printed.
TEST_F(Program, TheCatalogueIsPrintedFromOneTable) {
  const json all = json::parse(crashworthy({"faults", "--json"}).out);
  const std::string list = crashworthy({"faults"}).out;
  const std::string document = crashworthy({"faults", "--markdown"}).out;
  ASSERT_GE(all.size(), 3u);
  for (const json& row : all) {
    const std::string name = row["name"];
    EXPECT_THAT(list, HasSubstr("\n  " + name));
    EXPECT_THAT(list, HasSubstr(row["family"].get<std::string>() + "\n"));
    EXPECT_THAT(document, HasSubstr("\n### " + name));
    const std::string one = crashworthy({"faults", name}).out;
    for (const auto& [key, about] : row["keys"].items()) {
      EXPECT_THAT(one, HasSubstr("    " + key + " ")) << name;
      EXPECT_THAT(document, HasSubstr("| `" + key + "` |")) << name;
      EXPECT_EQ(about["type"].is_null(), !key.starts_with("set.")) << name << key;
    }
  }
}

TEST_F(Program, TheDoctorSaysWhichLevelHolds) {
  const Finished doctor = crashworthy({"doctor", "--json"});
  const json said = json::parse(doctor.out);
  std::set<std::string> named;
  std::string first = "none";
  for (const json& one : said["capabilities"]) {
    const std::string what = one["what"];
    named.insert(what);
    EXPECT_TRUE(one["works"] == true || one["detail"] != "") << what << ": no, but why?";
    if (first == "none" && one["works"] == true && what.starts_with("containment "))
      first = what.substr(what.find(' ') + 1);
  }
  EXPECT_EQ(said["containment"], first);
  for (const char* mechanism :
       {"pidfd", "ptrace of a descendant", "seccomp user notification",
        "user, mount and pid namespaces", "prlimit on a live process", "cgroup memory",
        "cgroup cpu", "cgroup pids", "inotify", "fanotify", "preload library"}) {
    EXPECT_TRUE(named.contains(mechanism)) << mechanism;
  }
}

struct BadCall {
  std::vector<std::string> words;
  int exit_code;
  const char* says;
};

TEST_F(Program, BadCallsGetOneClearError) {
  write("broken.json", "{");
  write("field.json", R"({"experiment": "x", "subjekt": {}})");
  fs::create_directories(directory_.path() / "empty");
  write("empty.json",
        R"({"experiment": "x", "subject": {"pipeline": "tiles", "input": {"path": "empty"}}})");
  const std::vector<BadCall> calls{
      {{}, 64, "subcommand"},
      {{"rnu"}, 64, "rnu"},
      {{"run"}, 64, "no experiment file"},
      {{"run", "nowhere.json"}, 64, "No such file"},
      {{"run", "broken.json"}, 64, "not JSON"},
      {{"run", "field.json"}, 64, "did you mean 'subject'?"},
      {{"run", "empty.json"}, 64, "no images"},
      {{"run", "--supervise", "field.json"}, 64, "looks like an experiment file"},
      {{"run", "--blocks", "0", "x.json"}, 64, "--blocks"},
      {{"run", "--fault", "process.kill"}, 64, "no command"},
      {{"run", "--fault", "process.kil", "--", "true"}, 64, "did you mean 'process.kill'?"},
      {{"run", "--fault", "process.kill", "--when", "after", "--", "true"}, 64, "not KEY=VALUE"},
      {{"run", "--fault", "process.kill", "--when", "after=-1s", "--", "true"}, 64, "negative"},
      {{"run", "--fault", "process.kill", "--out", "n", "--", "./nowhere"},
       64,
       "nowhere': No such file"},
      {{"run", "--fault", "process.kill", "--out", "n", "--", "false"}, 3, "exited with 1"},
      {{"run", "--out", "/proc/nowhere/x", tree("canary.json")}, 64, "--out"},
      {{"report", "empty"}, 64, "no run directory"},
      {{"compare", "empty", "empty"}, 64, "no run directory"},
      {{"compare", "broken.json", "broken.json"}, 64, "not JSON"},
      {{"faults", "process.kil"}, 64, "did you mean 'process.kill'?"},
  };
  for (const BadCall& call : calls) {
    const Finished finished = crashworthy(call.words);
    const std::string words = json(call.words).dump();
    EXPECT_EQ(finished.exit_code, call.exit_code) << words << finished.err;
    EXPECT_THAT(finished.err, HasSubstr(call.says)) << words;
    EXPECT_THAT(finished.err, HasSubstr("crashworthy: error: ")) << words;
    EXPECT_EQ(finished.out, "") << words;
  }
  EXPECT_FALSE(fs::exists(directory_.path() / "n")) << "a run that never began leaves nothing";
  EXPECT_FALSE(fs::exists(directory_.path() / "results"));
}

TEST_F(Program, AFullDiskIsAHarnessErrorThatKeepsWhatWasMeasured) {
  const fs::path small = directory_.path() / "small";
  fs::create_directories(small);
  const std::string script = "mount -t tmpfs -o size=1m none " + small.string() + " && exec " +
                             crashworthy_program() + " run --quiet --blocks 200 --out " +
                             small.string() + "/r " + tree("canary.json");
  const Finished finished = run_program(
      {"/usr/bin/unshare", "--user", "--map-root-user", "--mount", "/bin/sh", "-c", script},
      directory_.path(), 300);
  if (finished.err.find("unshare") != std::string::npos || finished.err.find("mount") == 0)
    GTEST_SKIP() << "no mount namespace here: " << finished.err;
  EXPECT_EQ(finished.exit_code, 5) << finished.out << finished.err;
  EXPECT_THAT(finished.err, HasSubstr("No space left on device"));
}

// The lines of the documents that begin with `crashworthy `, in blocks marked `sh`.
std::vector<std::string> documented_commands() {
  std::vector<std::string> commands;
  std::vector<fs::path> documents{fs::path(CRASHWORTHY_SOURCE_DIR) / "README.md"};
  for (const auto& entry : fs::directory_iterator(fs::path(CRASHWORTHY_SOURCE_DIR) / "docs"))
    documents.push_back(entry.path());
  for (const fs::path& document : documents) {
    std::ifstream lines(document);
    bool shell = false;
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with("```")) shell = line == "```sh";
      if (shell && line.starts_with("crashworthy ")) commands.push_back(line);
    }
  }
  return commands;
}

TEST_F(Program, CommandsShownInDocumentsRun) {
  write("my_pipeline", "#!/bin/sh\nfor f in $1*; do sleep 0.02; cp $f $2; done\n", true);
  for (const char* name : {"in/a", "in/b", "in/c", "in/d"})
    write(name, std::string("content of ") + name);
  fs::create_directory_symlink(fs::path(CRASHWORTHY_SOURCE_DIR) / "benchmarks",
                               directory_.path() / "benchmarks");
  const std::vector<std::string> commands = documented_commands();
  EXPECT_GE(commands.size(), 4u);
  for (const std::string& command : commands) {
    const std::string script =
        "PATH=" + std::string(CRASHWORTHY_PROGRAM_DIR) + ":$PATH; " + command;
    const Finished finished = run_program({"/bin/sh", "-c", script}, directory_.path());
    // 3: on a busy machine the drawn moment may come after the end of a quick command.
    EXPECT_TRUE(finished.exit_code == 0 || finished.exit_code == 3) << command << "\n"
                                                                    << finished.out << finished.err;
  }
}

TEST_F(Program, HelpAndListsGoToStdout) {
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{"--help"},
                                             {"run", "--help"},
                                             {"supervise", "--help"},
                                             {"ctl", "--help"},
                                             {"faults"},
                                             {"faults", "process.kill"},
                                             {"--version"}}) {
    const Finished finished = crashworthy(words);
    EXPECT_EQ(finished.exit_code, 0);
    EXPECT_NE(finished.out, "");
    EXPECT_EQ(finished.err, "");
  }
  for (const char* command : {"run", "inject", "replay", "supervise", "ctl"})
    EXPECT_THAT(crashworthy({command, "--help"}).out, HasSubstr("Examples:"));
}

}  // namespace
}  // namespace crashworthy::testing
