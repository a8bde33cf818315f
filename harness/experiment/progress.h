// Progress of a run on stderr: one line rewritten in place on a terminal, one line a block
// elsewhere, with an estimate.
#pragma once

#include <cstdint>
#include <string>

namespace crashworthy {

class Progress {
 public:
  // `enabled`: false prints nothing at all.
  Progress(bool enabled, int total, int blocks);
  ~Progress();

  // A step of its own: "golden run".
  void note(const std::string& text);
  // `done` trials are behind us; `what` is the one that begins now.
  void update(int done, int block, const std::string& what);
  void finish();

 private:
  bool enabled_;
  bool terminal_;
  int total_;
  int blocks_;
  int last_block_ = 0;
  std::int64_t started_ns_;
  bool line_open_ = false;
};

}  // namespace crashworthy
