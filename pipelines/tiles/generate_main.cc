// tiles-generate: writes made-up pictures for the subject `tiles`.
#include <CLI/CLI.hpp>

#include <cstdint>
#include <cstdio>
#include <string>

#include "pipelines/tiles/generate.h"

namespace {

constexpr int kHarnessError = 5;
constexpr int kWrongUsage = 64;

int fail(const crashworthy::Error& error) {
  std::fprintf(stderr, "tiles-generate: error: %s\n", error.message.c_str());
  if (!error.hint.empty()) std::fprintf(stderr, "  %s\n", error.hint.c_str());
  return error.kind == crashworthy::ErrorKind::kUsage ? kWrongUsage : kHarnessError;
}

// CLI11 would take -1 for a very large number.
std::string only_digits(const std::string& text) {
  const bool digits = text.find_first_not_of("0123456789") == std::string::npos;
  return digits ? "" : "'" + text + "' is not a number from 0";
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Writes made-up pictures: one PPM of any size, or a set of PNG and JPEG files.",
               "tiles-generate");
  app.footer(
      "The same seed gives the same bytes.\n"
      "Examples:\n"
      "  tiles-generate --ppm big.ppm --width 40000 --height 40000 --seed 1\n"
      "  tiles-generate --set photographs --count 100 --seed 1");
  std::string ppm;
  std::string set;
  int width = 0;
  int height = 0;
  int count = 0;
  std::uint64_t seed = 1;
  auto* ppm_option = app.add_option("--ppm", ppm, "the PPM file to write")->type_name("FILE");
  auto* set_option =
      app.add_option("--set", set, "the directory to write images to")->type_name("DIR");
  auto* width_option = app.add_option("--width", width, "pixels of a row")->type_name("W");
  auto* height_option = app.add_option("--height", height, "rows")->type_name("H");
  auto* count_option = app.add_option("--count", count, "how many images")->type_name("N");
  app.add_option("--seed", seed, "what the pictures are made from")
      ->type_name("N")
      ->check(only_digits)
      ->capture_default_str();
  ppm_option->excludes(set_option)->needs(width_option)->needs(height_option);
  set_option->needs(count_option);
  for (auto* option : {width_option, height_option}) option->needs(ppm_option);
  count_option->needs(set_option);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    return fail(crashworthy::usage_error(error.what(), "see tiles-generate --help"));
  }
  if (ppm.empty() && set.empty()) {
    return fail(crashworthy::usage_error("neither --ppm FILE nor --set DIR is given",
                                         "see tiles-generate --help"));
  }
  try {
    const auto done = ppm.empty() ? crashworthy::tiles::generate_set(set, count, seed)
                                  : crashworthy::tiles::generate_ppm(ppm, width, height, seed);
    return done ? 0 : fail(done.error());
  } catch (const std::exception& error) {  // Out of memory: nothing else passes.
    return fail(crashworthy::Error{crashworthy::ErrorKind::kSystem, 0, error.what(), {}});
  }
}
