#include "harness/experiment/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

#include "harness/os/clock.h"

namespace crashworthy {

Progress::Progress(bool enabled, int total, int blocks)
    : enabled_(enabled),
      terminal_(::isatty(STDERR_FILENO) == 1),
      total_(total),
      blocks_(blocks),
      started_ns_(now_ns()) {}

Progress::~Progress() { finish(); }

void Progress::note(const std::string& text) {
  if (!enabled_) return;
  finish();
  std::fprintf(stderr, "crashworthy: %s\n", text.c_str());
}

void Progress::update(int done, int block, const std::string& what) {
  if (!enabled_) return;
  if (done == 0) started_ns_ = now_ns();
  const double elapsed = static_cast<double>(now_ns() - started_ns_);
  const std::string eta =
      done == 0 ? "" : "  eta " + format_duration(elapsed / done * (total_ - done));
  if (terminal_) {
    constexpr int kWidth = 20;
    const int filled = total_ == 0 ? kWidth : kWidth * done / total_;
    const std::string bar = std::string(static_cast<std::size_t>(filled), '#') +
                            std::string(static_cast<std::size_t>(kWidth - filled), '-');
    std::fprintf(stderr, "\r\033[K[%s] block %d/%d  %s%s", bar.c_str(), block, blocks_,
                 what.c_str(), eta.c_str());
    std::fflush(stderr);
    line_open_ = true;
  } else if (block != last_block_) {
    std::fprintf(stderr, "crashworthy: block %d/%d%s\n", block, blocks_, eta.c_str());
  }
  last_block_ = block;
}

void Progress::finish() {
  if (line_open_) std::fprintf(stderr, "\r\033[K");
  line_open_ = false;
}

}  // namespace crashworthy
