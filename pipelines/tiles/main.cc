// tiles: an image pipeline that is run bare, isolated and supervised, to be compared.
#include <CLI/CLI.hpp>

#include <atomic>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "harness/os/clock.h"
#include "pipelines/tiles/executors.h"
#include "pipelines/tiles/items.h"
#include "pipelines/tiles/jobs.h"
#include "pipelines/tiles/output_directory.h"
#include "pipelines/tiles/pipeline.h"
#include "pipelines/tiles/runtime.h"

namespace {

using namespace crashworthy;
using namespace crashworthy::tiles;

constexpr int kAllDelivered = 0;
constexpr int kSomeMissing = 1;
constexpr int kWrongUsage = 64;
constexpr int kGaveUp = 70;
constexpr int kCannotWrite = 74;

constexpr const char* kFooter =
    "Exit codes: 0 all delivered; 1 some items failed or were lost; 64 wrong usage;\n"
    "70 gave up, no worker was left; 74 the output directory is unwritable or full.\n"
    "Examples:\n"
    "  tiles --output edges photographs/\n"
    "  tiles --output edges --list items.list --supervision none --workers 4\n"
    "  tiles --output small --ops median:5,sharpen --format jpg a.png b.png\n"
    "  tiles --output huge --format ppm --tile 1024 huge.ppm";

std::atomic<int> stop_signal{0};

// What the command line says before it is checked as a whole.
struct Words {
  std::string tile = "256";
  std::string output, list, operations = "blur:5,canny:60:150", period = "10s";
  std::string batch_timeout = "100ms", frame_bytes = "256M", deadline = "2m";
  std::vector<std::string> paths, batchers;
  OutputFormat format = OutputFormat::kPng;
  bool inexact = false, quiet = false;
};

int fail(int code, const Error& error) {
  std::fprintf(stderr, "tiles: error: %s\n", error.message.c_str());
  if (!error.hint.empty()) std::fprintf(stderr, "  %s\n", error.hint.c_str());
  return code;
}

void add_input_options(CLI::App& app, Words& words) {
  app.add_option("--output", words.output, "the directory for the results, made if missing")
      ->type_name("DIR")
      ->required();
  auto* list = app.add_option("--list", words.list,
                              "a file with a line INPUT<TAB>OUTPUT-NAME for each item");
  list->type_name("FILE");
  app.add_option("PATH", words.paths, "images, and directories of images")->excludes(list);
}

void add_work_options(CLI::App& app, Words& words, Settings& settings) {
  const std::map<std::string, OutputFormat> formats = {
      {"png", OutputFormat::kPng}, {"jpg", OutputFormat::kJpeg}, {"ppm", OutputFormat::kPpm}};
  app.add_option("--tile", words.tile, "pixels of a tile's side")
      ->type_name("N|WxH")
      ->capture_default_str();
  app.add_option("--ops", words.operations,
                 "the chain of operations: gray, blur[:k], median[:k], denoise[:h], sharpen, "
                 "canny[:low:high], equalize, invert")
      ->type_name("CHAIN")
      ->capture_default_str();
  app.add_flag("--inexact", words.inexact,
               "allow operations whose result depends on the tile (equalize)");
  app.add_option("--format", words.format,
                 "png, jpg or ppm; in a list, names with one of these extensions have their own. "
                 "ppm is written without an encoder, whatever the size; of gray results it makes "
                 "P5 files")
      ->type_name("FORMAT")
      ->transform(CLI::CheckedTransformer(formats).description(""));
  app.add_option("--slow", settings.slow_percent, "make each job take so many percent longer")
      ->type_name("PERCENT")
      ->check(CLI::Range(0.0, 10'000.0));
  app.add_option("--frame-bytes", words.frame_bytes,
                 "shared memory for an image, taken only as far as it is used")
      ->type_name("SIZE")
      ->capture_default_str();
}

void add_supervision_options(CLI::App& app, Words& words, Settings& settings) {
  const std::map<std::string, Supervision> kinds = {{"none", Supervision::kNone},
                                                    {"isolate", Supervision::kIsolate},
                                                    {"one_for_one", Supervision::kOneForOne}};
  app.add_option("--supervision", settings.supervision,
                 "none: threads of one process; isolate: worker processes that are not replaced; "
                 "one_for_one: replaced, and their work is done again (the default)")
      ->type_name("KIND")
      ->transform(CLI::CheckedTransformer(kinds).description(""));
  const auto count = [&app](const char* name, int& value, int least, int most, const char* text) {
    app.add_option(name, value, text)
        ->type_name("N")
        ->check(CLI::Range(least, most))
        ->capture_default_str();
  };
  count("--workers", settings.workers, 1, 256, "worker processes, or threads");
  count("--spares", settings.spares, 0, 256, "processes that wait to replace a worker");
  count("--intensity", settings.intensity, 0, 1'000'000,
        "deaths allowed within the period, but for those that an image has brought about");
  app.add_option("--period", words.period, "of the intensity")
      ->type_name("TIME")
      ->capture_default_str();
  app.add_option("--deadline", words.deadline, "a job that takes longer is killed; 0s: never")
      ->type_name("TIME")
      ->capture_default_str();
}

void add_flow_options(CLI::App& app, Words& words, Settings& settings) {
  app.add_option("--producers", settings.producers, "images being read at once, at most")
      ->type_name("N")
      ->check(CLI::Range(1, kMaxInFlight))
      ->capture_default_str();
  app.add_option("--max-demand", settings.max_demand, "images in flight, at most")
      ->type_name("N")
      ->check(CLI::Range(1, kMaxInFlight))
      ->capture_default_str();
  app.add_option("--batcher", words.batchers,
                 "a writer: how many batches at once, of how many images (default:1:4); may be "
                 "repeated")
      ->type_name("NAME:CONCURRENCY:SIZE")
      ->allow_extra_args(false);
  app.add_option("--batch-timeout", words.batch_timeout, "how long a batch waits to be full")
      ->type_name("TIME")
      ->capture_default_str();
  app.add_flag("--quiet", words.quiet, "do not print the summary");
}

// A number of a batcher, from 1 to `most`; 0 when it is none.
int batcher_number(const std::string& text, int most) {
  int value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool good = failure == std::errc() && end == text.data() + text.size();
  return good && value <= most ? value : 0;
}

Result<Batcher> parse_batcher(const std::string& text) {
  const std::size_t last = text.rfind(':');
  const std::size_t middle =
      last == std::string::npos || last == 0 ? last : text.rfind(':', last - 1);
  const std::string hint = "NAME:CONCURRENCY:SIZE, such as files:1:4, with at most " +
                           std::to_string(kMaxBatch) + " images in a batch";
  if (last == std::string::npos || middle == std::string::npos || middle == 0) {
    return usage_error("--batcher: '" + text + "' is not a name and two numbers", hint);
  }
  Batcher batcher{text.substr(0, middle),
                  batcher_number(text.substr(middle + 1, last - middle - 1), kMaxInFlight),
                  batcher_number(text.substr(last + 1), kMaxBatch)};
  if (batcher.concurrency < 1 || batcher.size < 1) {
    return usage_error("--batcher: '" + text + "' has an impossible number", hint);
  }
  return batcher;
}

Result<void> read_durations(const Words& words, Settings& settings) {
  const std::vector<std::tuple<const char*, const std::string*, Nanoseconds*>> durations = {
      {"--period", &words.period, &settings.period},
      {"--batch-timeout", &words.batch_timeout, &settings.batch_timeout},
      {"--deadline", &words.deadline, &settings.deadline}};
  for (const auto& [name, text, value] : durations) {
    auto duration = parse_duration(*text);
    if (!duration) return duration.error().with_context(name);
    *value = *duration;
  }
  if (settings.period.count() == 0) return usage_error("--period: 0 is no period");
  return {};
}

Result<void> complete(const Words& words, Settings& settings) {
  settings.output = words.output;
  auto chain = Chain::parse(words.operations);
  if (!chain) return chain.error().with_context("--ops");
  settings.chain = *std::move(chain);
  auto tile = parse_tile_size(words.tile);
  if (!tile) return tile.error().with_context("--tile");
  settings.tile = *tile;
  if (!words.inexact) {
    if (auto exact = settings.chain.require_exact(); !exact)
      return exact.error().with_context("--ops");
  }
  if (auto read = read_durations(words, settings); !read) return read.error();
  auto frame = parse_size(words.frame_bytes);
  if (!frame) return frame.error().with_context("--frame-bytes");
  constexpr std::uint64_t kLeast = 1 << 16, kMost = std::uint64_t{1} << 36;
  if (*frame < kLeast || *frame > kMost)
    return usage_error("--frame-bytes: '" + words.frame_bytes + "' is not from 64K to 64G");
  settings.frame_bytes = *frame;
  if (!words.batchers.empty()) settings.batchers.clear();
  for (const std::string& text : words.batchers) {
    auto batcher = parse_batcher(text);
    if (!batcher) return batcher.error();
    settings.batchers.push_back(*std::move(batcher));
  }
  return {};
}

Result<std::vector<Item>> find_work(const Words& words) {
  if (!words.list.empty()) return read_list(words.list, words.format);
  if (words.paths.empty())
    return usage_error("neither --list FILE nor an image is given", "see tiles --help");
  return find_items(words.paths, words.format);
}

void watch_signals() {
  struct sigaction action {};
  action.sa_handler = [](int signal) { stop_signal.store(signal); };
  for (const int signal : {SIGTERM, SIGINT}) ::sigaction(signal, &action, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
}

// The death that the signal asked for, now that all is cleaned up.
void die_by(int signal) {
  ::signal(signal, SIG_DFL);
  ::raise(signal);
}

void print(const Summary& summary, double seconds) {
  const double rate = seconds > 0 ? static_cast<double>(summary.delivered) / seconds : 0;
  std::printf("tiles: %llu delivered, %llu failed, %llu lost",
              static_cast<unsigned long long>(summary.delivered),
              static_cast<unsigned long long>(summary.failed),
              static_cast<unsigned long long>(summary.lost));
  if (summary.unfinished > 0)
    std::printf(", %llu unfinished", static_cast<unsigned long long>(summary.unfinished));
  std::printf(" in %.3f s (%.1f images/s)\n", seconds, rate);
  std::fflush(stdout);
}

int run(const Settings& settings, const std::vector<Item>& items, bool quiet) {
  const std::int64_t start = now_ns();
  watch_signals();
  auto output = OutputDirectory::open(settings.output);
  if (!output) {
    return fail(kCannotWrite, output.error().with_context("unable to use the output directory"));
  }
  const Probe probe = Probe::from_environment();
  set_up_process(settings, probe);
  warm_up(settings);
  const Jobs jobs(settings, items, *output);
  auto executor = make_executor(
      settings,
      [&jobs](const Job& job, const JobContext& context) { return jobs.run(job, context); }, probe);
  if (!executor) return fail(kGaveUp, executor.error());
  const Summary summary = Pipeline(settings, items, *output, **executor, probe).run(stop_signal);
  executor->reset();
  output->clean();
  if (const int signal = stop_signal.load(); signal != 0) die_by(signal);
  if (!quiet) print(summary, static_cast<double>(now_ns() - start) / 1e9);
  if (summary.gave_up) return fail(kGaveUp, summary.gave_up->with_context("the run ended early"));
  return summary.delivered == items.size() ? kAllDelivered : kSomeMissing;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app(
      "Runs a chain of image operations over many images, tile by tile, in threads or in worker "
      "processes.",
      "tiles");
  app.footer(kFooter);
  Words words;
  Settings settings;
  add_input_options(app, words);
  add_work_options(app, words, settings);
  add_supervision_options(app, words, settings);
  add_flow_options(app, words, settings);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    return fail(kWrongUsage, usage_error(error.what(), "see tiles --help"));
  }
  if (auto good = complete(words, settings); !good) return fail(kWrongUsage, good.error());
  auto items = find_work(words);
  if (!items) return fail(kWrongUsage, items.error());
  return run(settings, *items, words.quiet);
}
