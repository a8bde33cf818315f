#include "harness/experiment/subject_setup.h"

#include <fmt/format.h>
#include <glob.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <set>

#include "harness/experiment/environment.h"
#include "harness/experiment/item_command.h"
#include "harness/experiment/output_names.h"
#include "harness/experiment/service_command.h"
#include "harness/os/file.h"
#include "harness/process/launcher.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;

// The photographs of Debian's opencv-doc: real pictures that every Debian has, never copied into
// this project.
constexpr const char* kPhotographs = "/usr/share/doc/opencv-doc/examples";
constexpr const char* kPhotographsPackage = "opencv-doc";
constexpr std::chrono::minutes kGenerateBound(10);

bool is_image(const fs::path& path) {
  static const std::set<std::string> kExtensions{".png",  ".jpg",  ".jpeg", ".tif",
                                                 ".tiff", ".webp", ".ppm"};
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return kExtensions.contains(extension);
}

std::vector<std::string> images_below(const fs::path& root, bool recursive) {
  std::vector<std::string> found;
  std::error_code failure;
  for (auto entry = fs::recursive_directory_iterator(root, failure);
       !failure && entry != fs::recursive_directory_iterator(); entry.increment(failure)) {
    if (!recursive) entry.disable_recursion_pending();
    if (entry->is_regular_file(failure) && is_image(entry->path()))
      found.push_back(entry->path().string());
  }
  std::sort(found.begin(), found.end());
  return found;
}

// Runs our generator to its end.
Result<void> generate(const std::vector<std::string>& arguments) {
  auto program = find_helper("tiles-generate");
  if (!program) return program.error();
  LaunchSpec spec;
  spec.argv = {program->string()};
  spec.argv.insert(spec.argv.end(), arguments.begin(), arguments.end());
  spec.environment = to_environment(inherited_variables());
  spec.passthrough_output = true;
  auto subject = Subject::launch(spec);
  if (!subject) return subject.error();
  if (!subject->wait_until_gone(kGenerateBound))
    return Error{ErrorKind::kTimeout, 0, "generating the input took too long", {}};
  auto reports = subject->read_reports();
  if (!reports) return reports.error();
  for (const Report& report : *reports) {
    if (report.kind == Report::Kind::kMainEnded && !report.status.success()) {
      return Error{ErrorKind::kSystem, 0,
                   "unable to generate the input: the generator " + report.status.describe(),
                   "is the disk full?"};
    }
  }
  return {};
}

Result<std::vector<std::string>> generated_set(int count, std::uint64_t seed,
                                               const fs::path& directory) {
  auto done = generate({"--set", directory.string(), "--count", std::to_string(count), "--seed",
                        std::to_string(seed)});
  if (!done) return done.error();
  return images_below(directory, false);
}

Result<std::vector<std::string>> find_images(const InputSpec& input, const fs::path& work,
                                             std::vector<std::string>& notes) {
  switch (input.kind) {
    case InputSpec::Kind::kSet: {
      auto images = images_below(kPhotographs, true);
      if (!images.empty()) return images;
      notes.push_back(fmt::format(
          "no photographs in {} (Debian package {}): generated {} images from seed {} instead",
          kPhotographs, kPhotographsPackage, 64, input.seed));
      return generated_set(64, input.seed, work / "inputs");
    }
    case InputSpec::Kind::kGenerate:
      return generated_set(input.count, input.seed, work / "inputs");
    case InputSpec::Kind::kPpm: {
      if (auto made = make_directories(work / "inputs"); !made) return made.error();
      const std::string file = (work / "inputs" / "generated.ppm").string();
      auto done = generate({"--ppm", file, "--width", std::to_string(input.width), "--height",
                            std::to_string(input.height), "--seed", std::to_string(input.seed)});
      if (!done) return done.error();
      return std::vector<std::string>{file};
    }
    case InputSpec::Kind::kPath:
      break;
  }
  std::error_code failure;
  if (fs::is_directory(input.path, failure)) {
    auto images = images_below(input.path, false);
    if (images.empty())
      return usage_error("no images in '" + input.path.string() + "'",
                         "it must hold .png, .jpg, .tif, .webp or .ppm files");
    return images;
  }
  if (!fs::exists(input.path, failure))
    return usage_error("there is no '" + input.path.string() + "'");
  return std::vector<std::string>{input.path.string()};
}

Result<void> prepare_tiles(PreparedSubject& prepared, const fs::path& work) {
  auto program = find_helper("tiles");
  if (!program) return program.error();
  prepared.program = *program;
  auto images = find_images(prepared.spec.input, work, prepared.notes);
  if (!images) return images.error();
  const int limit = prepared.spec.input.limit;
  if (limit > 0 && images->size() > static_cast<std::size_t>(limit))
    images->resize(static_cast<std::size_t>(limit));
  prepared.input_files = *std::move(images);
  prepared.items.emplace();
  std::string list;
  for (std::size_t i = 0; i < prepared.input_files.size(); ++i) {
    const fs::path input(prepared.input_files[i]);
    if (prepared.input_files[i].find_first_of("\n\t") != std::string::npos) {
      return usage_error("the file name '" + input.string() + "' has a tab or a line break");
    }
    const std::string output =
        fmt::format("{:04}_{}.{}", i, input.stem().string(), prepared.spec.format);
    prepared.items->push_back({output});
    list += input.string() + "\t" + output + "\n";
  }
  prepared.list_file = work / "items.list";
  return write_file_atomically(prepared.list_file, list);
}

// Files below `directory` that match one of the globs, relative to it.
Result<std::vector<std::string>> expand_globs(const std::vector<std::string>& patterns,
                                              const fs::path& directory) {
  std::set<std::string> found;
  for (const std::string& pattern : patterns) {
    glob_t matches{};
    const std::string whole = literal_pattern(directory.string()) + "/" + pattern;
    const int result = ::glob(whole.c_str(), 0, nullptr, &matches);
    std::size_t files = 0;
    for (std::size_t i = 0; result == 0 && i < matches.gl_pathc; ++i) {
      const fs::path path(matches.gl_pathv[i]);
      std::error_code failure;
      if (!fs::is_regular_file(path, failure)) continue;
      found.insert(path.lexically_relative(directory).string());
      ++files;
    }
    ::globfree(&matches);
    if (files == 0)
      return usage_error("no file matches '" + pattern + "' in '" + directory.string() + "'");
  }
  return std::vector<std::string>(found.begin(), found.end());
}

Result<void> prepare_command(PreparedSubject& prepared, const fs::path& work) {
  auto inputs = expand_globs(prepared.spec.inputs, prepared.spec.directory);
  if (!inputs) return inputs.error();
  prepared.input_files = *std::move(inputs);
  if (prepared.spec.service) {
    auto client = find_helper("crashworthy-visit");
    if (!client) return client.error();
    prepared.dispatcher = *client;
    return prepare_requests(prepared, work);
  }
  if (!prepared.spec.by_items()) return {};
  auto items = expand_globs(prepared.spec.items, prepared.spec.directory);
  if (!items) return items.error();
  auto dispatcher = find_helper("crashworthy-each");
  if (!dispatcher) return dispatcher.error();
  prepared.dispatcher = *dispatcher;
  prepared.item_files = *std::move(items);
  std::set<std::string> files(prepared.input_files.begin(), prepared.input_files.end());
  files.insert(prepared.item_files.begin(), prepared.item_files.end());
  prepared.input_files.assign(files.begin(), files.end());
  return prepare_items(prepared, prepared.item_files, work);
}

std::vector<std::string> make_environment(const PreparedSubject& subject, const fs::path& scratch) {
  std::map<std::string, std::string> variables = inherited_variables();
  variables["HOME"] = (scratch / "home").string();
  variables["TMPDIR"] = (scratch / "tmp").string();
  for (const auto& [name, value] : subject.spec.environment) variables[name] = value;
  return to_environment(variables);
}

// A program that is named with a '/' lies where the command line was written, not in the trial's
// directory.
std::vector<std::string> command_words(const SubjectSpec& spec, const ArmSpec& arm) {
  std::vector<std::string> words = arm.command.empty() ? spec.command : arm.command;
  if (words[0].find('/') != std::string::npos && !fs::path(words[0]).is_absolute())
    words[0] = (spec.directory / words[0]).lexically_normal().string();
  return words;
}

std::vector<std::string> tiles_arguments(const PreparedSubject& subject, const ArmSpec& arm,
                                         const fs::path& output) {
  const SubjectSpec& spec = subject.spec;
  std::vector<std::string> argv{
      subject.program.string(), "--list", subject.list_file.string(), "--output", output.string(),
      "--tile", spec.tile, "--ops", spec.operations, "--supervision",
      // What restarts the whole command is no matter of the pipeline.
      supervision_name(arm.supervision == Supervision::kRestart ? Supervision::kNone
                                                                : arm.supervision),
      "--workers", std::to_string(arm.workers), "--producers", std::to_string(spec.producers),
      "--max-demand", std::to_string(spec.max_demand)};
  for (const Batcher& batcher : spec.batchers) {
    argv.insert(argv.end(), {"--batcher", fmt::format("{}:{}:{}", batcher.name, batcher.concurrency,
                                                      batcher.size)});
  }
  if (arm.supervision == Supervision::kSupervised) {
    argv.insert(argv.end(), {"--spares", std::to_string(arm.spares), "--intensity",
                             std::to_string(arm.intensity), "--period", arm.period});
  }
  if (spec.slow_percent > 0)
    argv.insert(argv.end(), {"--slow", fmt::format("{:g}", spec.slow_percent)});
  if (spec.inexact) argv.emplace_back("--inexact");
  return argv;
}

// Links to the inputs of a pipeline, each of which may be replaced, and the list that names them.
Result<void> link_inputs(const PreparedSubject& subject, const fs::path& scratch,
                         TrialSetup& setup) {
  const fs::path directory = scratch / "inputs";
  if (auto made = make_directories(directory); !made) return made;
  std::string list;
  for (std::size_t i = 0; i < subject.input_files.size(); ++i) {
    const fs::path original = subject.input_files[i];
    setup.inputs.push_back(directory / fmt::format("{:04}_{}", i, original.filename().string()));
    std::error_code failure;
    fs::create_symlink(fs::absolute(original), setup.inputs.back(), failure);
    if (failure) return system_error("link the input '" + original.string() + "'", failure.value());
    list += setup.inputs.back().string() + "\t" + (*subject.items)[i].name + "\n";
  }
  const auto at = std::find(setup.argv.begin(), setup.argv.end(), subject.list_file.string());
  *at = (scratch / "items.list").string();
  return write_file_atomically(*at, list);
}

// The part of the pattern before its first wildcard directory, which is a directory that the
// command may expect.
fs::path fixed_parent(const std::string& pattern) {
  fs::path parent;
  for (const fs::path& part : fs::path(pattern).parent_path()) {
    if (part.string().find_first_of("*?[") != std::string::npos) break;
    parent /= part;
  }
  return parent;
}

Result<void> copy_inputs(const PreparedSubject& subject, const fs::path& directory) {
  for (const std::string& input : subject.input_files) {
    const fs::path target = directory / input;
    std::error_code failure;
    fs::create_directories(target.parent_path(), failure);
    if (!failure) fs::copy_file(subject.spec.directory / input, target, failure);
    if (failure == std::errc::permission_denied)
      return usage_error("the input '" + input + "' may not be read: " + failure.message(),
                         "run as who may, or leave it out of --inputs");
    if (failure) return system_error("copy the input '" + input + "'", failure.value());
  }
  for (const std::string& pattern : output_patterns(subject.spec)) {
    if (auto made = make_directories(directory / fixed_parent(pattern)); !made) return made;
  }
  return {};
}

}  // namespace

Result<PreparedSubject> prepare_subject(const SubjectSpec& spec, const fs::path& work) {
  PreparedSubject prepared;
  prepared.spec = spec;
  Result<void> done;
  if (spec.pipeline == "tiles") {
    done = prepare_tiles(prepared, work);
  } else if (!spec.pipeline.empty()) {
    auto program = find_helper(spec.pipeline);
    if (!program) return program.error();
    prepared.program = *program;
  } else {
    done = prepare_command(prepared, work);
  }
  if (!done) return done.error();
  return prepared;
}

Result<TrialSetup> set_up_trial(const PreparedSubject& subject, const ArmSpec& arm,
                                const fs::path& scratch, bool own_inputs) {
  TrialSetup setup;
  const bool command = subject.spec.pipeline.empty();
  setup.directory = scratch / "work";
  setup.output_root = command ? setup.directory : scratch / "out";
  for (const fs::path& directory :
       {setup.directory, setup.output_root, scratch / "home", scratch / "tmp"}) {
    if (auto made = make_directories(directory); !made) return made.error();
  }
  if (!command) setup.output = setup.output_root;
  const std::vector<std::string> patterns = output_patterns(subject.spec);
  if (command && !patterns.empty()) {
    const fs::path parent = fixed_parent(patterns.front());
    if (!parent.empty()) setup.output = setup.directory / parent;
  }
  setup.environment = make_environment(subject, scratch);
  if (subject.spec.pipeline == "tiles") {
    setup.argv = tiles_arguments(subject, arm, setup.output_root);
    if (own_inputs) {
      if (auto linked = link_inputs(subject, scratch, setup); !linked) return linked.error();
    }
    setup.complete_codes = {0, 1};  // 1: it finished, and some items are failed or lost.
  } else {
    setup.complete_codes = {0};
    if (command) {
      const bool by_items = subject.spec.by_items();
      if (by_items) {
        setup.argv = item_arguments(subject, arm);
        setup.complete_codes = {0, 1};  // As of tiles.
      }
      if (subject.spec.service) {
        setup.client = visit_arguments(subject);
        setup.complete_codes = {0, 1};
      }
      const std::vector<std::string> words = command_words(subject.spec, arm);
      setup.argv.insert(setup.argv.end(), words.begin(), words.end());
      setup.patterns = patterns;
      if (auto copied = copy_inputs(subject, setup.directory); !copied) return copied.error();
      for (const std::string& input : by_items ? subject.item_files : subject.input_files)
        setup.inputs.push_back(setup.directory / input);
    } else {
      setup.argv = {subject.program.string(), "--output", setup.output_root.string()};
    }
  }
  setup.argv.insert(setup.argv.end(), arm.arguments.begin(), arm.arguments.end());
  return setup;
}

Result<void> put_under_restart(const ArmSpec& arm, const fs::path& scratch,
                               const std::vector<int>& descriptors, TrialSetup& setup) {
  auto program = find_helper("crashworthy");
  if (!program) return program.error();
  nlohmann::json command{{"id", "command"},
                         {"command", setup.argv},
                         {"restart", "transient"},
                         {"significant", true},
                         {"inherit", descriptors}};
  const nlohmann::json tree{{"intensity", arm.intensity},
                            {"period", arm.period},
                            {"auto_shutdown", "any_significant"},
                            {"children", {std::move(command)}}};
  const fs::path file = scratch / "tree.json";
  setup.events = scratch / "supervision.jsonl";
  setup.argv = {program->string(), "supervise",           "--quiet",
                "--events",        setup.events.string(), file.string()};
  if (setup.client.empty()) setup.complete_codes = {0};
  return write_file_atomically(
      file, tree.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

}  // namespace crashworthy
