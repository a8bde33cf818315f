// crashworthy: crash tests for native pipelines. The command line; what each command does lies in
// the rooms below.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "harness/cli/commands.h"
#include "harness/os/clock.h"
#include "harness/os/json_fields.h"

namespace crashworthy {
namespace {

constexpr int kUsageExit = 64;

// The library takes "-1" as a very large number, and an empty text as if nothing had been said.
std::string seed_trouble(const std::string& text) {
  std::uint64_t seed = 0;
  const char* end = text.data() + text.size();
  const auto [rest, failure] = std::from_chars(text.data(), end, seed);
  if (failure == std::errc() && rest == end) return {};
  return "must be a whole number from 0 to 18446744073709551615, not '" + text + "'";
}
std::string directory_trouble(const std::string& text) {
  return text.empty() ? "is empty: name a directory, or leave the option out" : "";
}

void add_run(CLI::App& app, RunArguments& arguments) {
  CLI::App* run = app.add_subcommand(
      "run", "Run an experiment: every arm under every fault, and say what it cost");
  run->add_option("experiment", arguments.words,
                  "Experiment file; or, after --, the command to test")
      ->type_name("EXPERIMENT.json");
  run->add_option("--blocks", arguments.blocks, "Blocks to run (each cell once a block)")
      ->check(CLI::Range(1, 10000));
  run->add_option("--seed", arguments.seed, "Seed of all chance; printed and recorded")
      ->check(seed_trouble, "");
  run->add_option(
         "--out", arguments.out,
         "The run directory, made with its parents (default: results/runs/<experiment>/<UTC time>)")
      ->check(directory_trouble, "");
  run->add_flag("--json", arguments.json, "Print summary.json to stdout instead of the table");
  run->add_flag("--quiet", arguments.quiet, "One line of result, no progress");
  run->add_flag("--disarm", arguments.disarm,
                "Do everything but fire the faults: must come out not_activated");
  run->add_flag(
      "--supervise", arguments.supervise,
      "Also run the command under a supervision tree that restarts it (arm: restart); with "
      "--items: give items out again, replace what hangs (arm: supervised)");
  run->add_option("--fault", arguments.fault,
                  "Fault for the command, NAME[@POINT] (see: crashworthy faults)");
  run->add_option("--victim", arguments.victim, "Whom it strikes, KEY=VALUE")
      ->allow_extra_args(false);
  run->add_option("--when", arguments.when, "When it strikes, KEY=VALUE")->allow_extra_args(false);
  run->add_option("--set", arguments.set, "Its settings, KEY=VALUE")->allow_extra_args(false);
  run->add_option("--inputs", arguments.inputs, "Files that each trial gets a copy of (glob)")
      ->allow_extra_args(false);
  run->add_option("--outputs", arguments.outputs,
                  "Files that are its outputs (glob; default: all it leaves)")
      ->allow_extra_args(false);
  run->add_option("--items", arguments.items,
                  "Files of which each is an item (glob): the command runs once for each, with its "
                  "path as {} and that of its output as {out}")
      ->allow_extra_args(false);
  run->add_option("--workers", arguments.workers, "How many items at once (2)")
      ->check(CLI::Range(1, 256));
  run->add_option("--output-name", arguments.output_name,
                  "{out}, from {name}, {stem} and {ext} of the item (out/{name})");
  run->add_option("--item-deadline", arguments.item_deadline,
                  "Supervised: an item that takes longer is tried again (30s; 0s: none)");
  run->add_option("--protocol", arguments.protocol,
                  "lines: the command is a worker that is told its items on stdin");
  run->add_option("--heartbeat", arguments.heartbeat,
                  "Supervised workers: one that is silent so long at an item is replaced");
  run->add_option(
      "--timeout", arguments.timeout,
      "A trial that takes longer is ended, a fault-free run too: what it has not delivered "
      "is unfinished (20 times the fault-free run, at least 10s)");
  run->add_flag("--rerun", arguments.rerun,
                "After each fault the command is run again in what was left, and judged apart");
  run->add_option("--service", arguments.service,
                  "The command is a service, and never ends: KEY=VALUE of its requests, such as "
                  "ready=URL, targets=/a,/b, rate=20, requests=200")
      ->allow_extra_args(false);
  run->footer(
      "Examples:\n"
      "  crashworthy run benchmarks/experiments/tiles.json\n"
      "  crashworthy run --blocks 3 --seed 7 --out /tmp/first experiment.json\n"
      "  crashworthy run --fault process.kill --inputs 'in/*.jpg' --outputs 'out/*.png' -- "
      "./my_pipeline in/ out/\n"
      "  crashworthy run --supervise --fault process.kill --when after=1s --blocks 5 -- "
      "./my_pipeline in/ out/\n"
      "  crashworthy run --items 'in/*.jpg' --workers 2 --supervise --fault process.kill --victim "
      "holding_item=true --when item=5 -- convert {} -resize 50% {out}\n"
      "Exit codes: 0 pass, 1 an expectation is false, 3 inconclusive, 5 harness error, 64 wrong "
      "usage, 77 a capability is missing here.");
}

void add_inject(CLI::App& app, InjectArguments& arguments) {
  CLI::App* inject = app.add_subcommand("inject", "Run any command under a fault, once");
  inject->add_option("fault", arguments.fault, "NAME[@POINT] (see: crashworthy faults)")
      ->type_name("FAULT");
  inject->add_option("--faults", arguments.faults_file,
                     "Several at once: a file with a list of faults, as in an experiment file");
  inject->add_option("--victim", arguments.victim, "Whom it strikes, KEY=VALUE")
      ->allow_extra_args(false);
  inject->add_option("--when", arguments.when, "When it strikes, KEY=VALUE (default: after=100ms)")
      ->allow_extra_args(false);
  inject->add_option("--set", arguments.set, "Its settings, KEY=VALUE")->allow_extra_args(false);
  inject->add_option("--seed", arguments.seed, "Seed of all chance; recorded")
      ->check(seed_trouble, "");
  inject
      ->add_option("--out", arguments.out,
                   "Directory of the record, made with its parents (default: below "
                   "$XDG_STATE_HOME or ~/.local/state, crashworthy/inject/<UTC time>-<fault>)")
      ->check(directory_trouble, "");
  inject->add_option("--timeout", arguments.timeout, "End the command after so long (30s)");
  inject->add_flag("--disarm", arguments.disarm,
                   "Do everything but fire: must come out not_activated");
  inject->add_flag("--json", arguments.json, "Say it as one line of JSON, on stderr");
  inject->add_flag("--quiet", arguments.quiet, "Say nothing");
  inject->footer(
      "The command has our stdin, stdout, stderr, other descriptors, directory, environment and\n"
      "limits. What is left of its tree when it ends, or when we do, is ended. It runs in a "
      "session\n"
      "of its own: it reads from the terminal but has no job control, Ctrl-C ends it with us, "
      "Ctrl-Z\n"
      "does nothing, and started in the background its stdin is empty. `first_output` and\n"
      "`recovered` are known of programs with a probe only. Without root it runs in a user\n"
      "namespace, and with io.* with NO_NEW_PRIVS: set-user-ID programs (sudo, ping) gain nothing\n"
      "there. A process has one tracer: under a fault that traces, strace and gdb cannot.\n"
      "Examples:\n"
      "  crashworthy inject process.kill --when after=1s -- ./program --its-option\n"
      "  crashworthy inject process.kill --victim 'command=*worker*' -- ./server\n"
      "  crashworthy inject --faults five.json --seed 7 --out record -- ./program\n"
      "Exit codes: 0 all confirmed, 3 not activated, skipped or indeterminate, 5 harness error,\n"
      "64 wrong usage; the command's own is told on stderr.");
}

void add_replay(CLI::App& app, ReplayArguments& arguments) {
  CLI::App* replay = app.add_subcommand(
      "replay", "Repeat a recorded trial: the same faults, moments, victims and order");
  replay->add_option("directory", arguments.directory, "A record of inject, or a run directory")
      ->type_name("DIR")
      ->required();
  replay->add_option("--trial", arguments.trial, "Which trial of a run directory");
  replay
      ->add_option("--out", arguments.out,
                   "Directory of the new record (default: as of inject, crashworthy/replay)")
      ->check(directory_trouble, "");
  replay->add_flag("--json", arguments.json, "Say it as one line of JSON, on stderr");
  replay->add_flag("--quiet", arguments.quiet, "Say nothing");
  replay->footer(
      "Examples:\n"
      "  crashworthy replay ~/.local/state/crashworthy/inject/2026-01-02T03:04:05Z-process.kill\n"
      "  crashworthy replay results/runs/tiles/latest --trial 7\n"
      "Exit codes: 0 victims, triggers, order and outcomes were the same, 3 they were not,\n"
      "5 harness error, 64 wrong usage.");
}

void add_supervise(CLI::App& app, SuperviseArguments& arguments) {
  CLI::App* supervise = app.add_subcommand(
      "supervise", "Run a supervision tree of processes in the foreground (also as pid 1)");
  supervise->add_option("tree", arguments.file, "The tree file")
      ->type_name("TREE.json")
      ->required();
  supervise->add_option("--events", arguments.events,
                        "Append every event to this file, as a JSON line each");
  supervise->add_option("--log", arguments.log,
                        "Append the lifecycle log to this file (default: it goes to stderr)");
  supervise->add_option("--socket", arguments.socket,
                        "Listen here for crashworthy ctl; only for the same user");
  supervise->add_option("--seed", arguments.seed, "Seed of the back-off's jitter")
      ->check(seed_trouble, "");
  supervise->add_flag("--quiet", arguments.quiet, "No lifecycle log on stderr");
  supervise->add_flag("--check", arguments.check, "Check the tree file and its programs, only");
  supervise->footer(
      "SIGTERM, SIGINT, SIGQUIT and SIGHUP stop the tree in order; another, 0.1 s later or more, "
      "kills it. stdout\n"
      "and stderr of the children are ours.\n"
      "Examples:\n"
      "  crashworthy supervise --check tree.json\n"
      "  crashworthy supervise tree.json --events events.jsonl --socket ctl.sock\n"
      "  docker run ... crashworthy supervise /etc/tree.json\n"
      "Exit codes: 0 ended as asked, or by auto_shutdown; 1 it gave up: too many restarts, or the\n"
      "first start failed; 5 harness error; 64 wrong usage, or a wrong tree file.");
}

void add_ctl(CLI::App& app, CtlArguments& arguments, std::string& timeout) {
  CLI::App* ctl = app.add_subcommand("ctl", "Ask a running tree, or tell it what to do");
  ctl->add_option("socket", arguments.socket, "Its --socket")->type_name("SOCKET")->required();
  ctl->add_option("command", arguments.command,
                  "tree, status [ID], stop ID, restart ID, suspend ID, resume ID")
      ->required();
  ctl->add_option("id", arguments.id,
                  "A child: its path from the root (inner/worker), or an id that is unique");
  ctl->add_flag("--json", arguments.json, "Print the answer as JSON");
  ctl->add_option("--timeout", timeout,
                  "How long to wait for the answer (default: 10s, for orders 60s)");
  ctl->footer(
      "Examples:\n"
      "  crashworthy ctl ctl.sock tree\n"
      "  crashworthy ctl ctl.sock restart inner/worker\n"
      "  crashworthy ctl ctl.sock stop worker --timeout 5s\n"
      "  crashworthy ctl ctl.sock status --json\n"
      "Exit codes: 0 done, 1 refused, 5 no answer, 64 wrong usage.");
}

int run_ctl(CtlArguments arguments, const std::string& timeout) {
  if (timeout.empty()) return ctl_command(std::move(arguments));
  auto bound = parse_duration(timeout);
  if (!bound) return fail(bound.error().with_context("--timeout"));
  if (*bound > std::chrono::hours(24 * 365)) return fail(usage_error("--timeout: at most 8760h"));
  arguments.timeout = *bound;
  return ctl_command(std::move(arguments));
}

int dispatch(int argc, char** argv) {
  CLI::App app("Crash tests for native pipelines: what a fault costs, with and without protection.",
               "crashworthy");
  app.set_version_flag("--version", CRASHWORTHY_VERSION);
  app.require_subcommand(1);
  app.footer("Start with: crashworthy doctor; crashworthy run benchmarks/experiments/tiles.json");
  RunArguments run;
  add_run(app, run);
  std::string directory;
  bool dump = false;
  bool json = false;
  CLI::App* report = app.add_subcommand(
      "report", "Compute table, summary.json and report.html again from the histories of a run");
  report->add_option("directory", directory, "Run directory")->required();
  report->add_flag("--dump", dump, "Print every event of every trial as a JSON line instead");
  report->add_flag("--json", json, "Print summary.json to stdout instead of the table");
  std::string base;
  std::string contender;
  bool markdown = false;
  CLI::App* compare =
      app.add_subcommand("compare", "Compare two runs by the gate lines of the baseline");
  compare->add_option("base", base, "Run directory or summary.json of the baseline")->required();
  compare->add_option("contender", contender, "Run directory or summary.json of the contender")
      ->required();
  compare->add_flag("--json", json, "Print the comparison as JSON");
  compare->add_flag("--markdown", markdown, "Print it as Markdown, for a pull request");
  compare->footer(
      "Exit codes: 0 pass, 1 regression, 3 inconclusive, 4 not comparable, 5 harness error, 64 "
      "wrong usage.");
  std::string fault;
  CLI::App* faults = app.add_subcommand("faults", "List the faults, or explain one");
  faults->add_option("name", fault, "Fault");
  faults->add_flag("--json", json, "Print as JSON");
  faults->add_flag("--markdown", markdown, "Print all of them as a document");
  InjectArguments inject;
  add_inject(app, inject);
  ReplayArguments replay;
  add_replay(app, replay);
  CLI::App* recover = app.add_subcommand(
      "recover", "Undo what a harness that was killed has left outside of its subjects");
  recover->add_option("directory", directory, "Its record: of inject or replay, or a run directory")
      ->type_name("DIR")
      ->required();
  recover->add_flag("--json", json, "Print as JSON");
  recover->footer(
      "Only what is proved to be ours is touched. It can be repeated.\n"
      "Exit codes: 0 nothing is left, 5 something is, 64 wrong usage, or that harness still runs.");
  CLI::App* doctor =
      app.add_subcommand("doctor", "Say what this machine allows, and how noisy it is");
  doctor->add_flag("--json", json, "Print as JSON");
  SuperviseArguments supervise;
  add_supervise(app, supervise);
  CtlArguments ctl;
  std::string ctl_timeout;
  add_ctl(app, ctl, ctl_timeout);
  if (argc > 1 && argv[1][0] != '-') {
    std::vector<std::string> commands;
    for (const CLI::App* command : app.get_subcommands({})) commands.push_back(command->get_name());
    if (std::find(commands.begin(), commands.end(), argv[1]) == commands.end()) {
      return fail(usage_error(std::string("unknown command '") + argv[1] + "'",
                              suggest(argv[1], commands)));
    }
  }
  // What comes after -- is the command, whatever it looks like.
  std::vector<std::string> command;
  if (argc > 1 && (std::string(argv[1]) == "inject" || std::string(argv[1]) == "run")) {
    char** const end =
        std::find_if(argv, argv + argc, [](const char* word) { return std::string(word) == "--"; });
    if (end != argv + argc) command.assign(end + 1, argv + argc);
    argc = static_cast<int>(end - argv);
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    std::fprintf(stderr, "crashworthy: error: %s\n  try crashworthy --help\n", error.what());
    return kUsageExit;
  }
  inject.command = command;
  run.words.insert(run.words.end(), command.begin(), command.end());
  if (app.got_subcommand("run")) return run_command(run);
  if (app.got_subcommand("report")) return report_command(directory, dump, json);
  if (app.got_subcommand("compare")) return compare_command(base, contender, json, markdown);
  if (app.got_subcommand("faults")) return faults_command(fault, json, markdown);
  if (app.got_subcommand("inject")) return inject_command(inject);
  if (app.got_subcommand("replay")) return replay_command(replay);
  if (app.got_subcommand("recover")) return recover_command(directory, json);
  if (app.got_subcommand("supervise")) return supervise_command(supervise);
  if (app.got_subcommand("ctl")) return run_ctl(std::move(ctl), ctl_timeout);
  return doctor_command(json);
}

}  // namespace
}  // namespace crashworthy

int main(int argc, char** argv) try {
  ::signal(SIGPIPE, SIG_IGN);  // A closed pipe is an error of the write, not our death.
  ::signal(SIGXFSZ, SIG_IGN);  // So is a limit of the file size.
  const int status = crashworthy::dispatch(argc, argv);
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return status;
  if (errno == EPIPE) return status;  // The reader has seen enough.
  std::fprintf(stderr, "crashworthy: error: unable to write to stdout\n");
  return 5;
} catch (const std::exception& failure) {
  // A library threw what its adapter should have caught: still a clear end, and destructors have
  // cleaned up.
  std::fprintf(stderr, "crashworthy: error: %s\n  this is a bug of crashworthy\n", failure.what());
  return 5;
}
