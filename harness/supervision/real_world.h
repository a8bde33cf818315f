// A tree over real processes that behave as a script says: what World (fake_backend.h) is over
// simulated ones.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "harness/supervision/behaviour_process.h"
#include "harness/supervision/behaviours.h"
#include "harness/supervision/transcript.h"
#include "harness/supervision/tree.h"

namespace crashworthy {

// One at a time. The program must have registered behave() as kChildFunction.
class RealWorld {
 public:
  // `directory` is empty, and the world's own.
  RealWorld(SupervisorSpec tree, bool hooks, const std::filesystem::path& directory,
            std::uint64_t seed = 0);

  // Does what the action of `step`, which is no question, says, and waits until all of it is seen,
  // or for long enough. Returns what was seen, comparable.
  std::string act(const Step& step);
  // `text`, which was seen or is to be seen at `step`, with what nothing orders in one order.
  static std::string comparable(const Step& step, const std::string& text);
  // The same, but waits until `holds`, and then until nothing more happens.
  std::string act_until(const Action& action, const std::function<bool()>& holds);
  // The answer to the question `action`.
  std::string ask(const Action& action) const;

  // Whether starts of `path` can be made to fail: not those of one instance among others.
  bool can_fail_starts(const std::string& path) const;
  SupervisionTree& tree() { return *tree_; }
  Transcript& transcript() { return transcript_; }
  // What was wrong, whatever the script.
  std::vector<std::string> complaints() const;

 private:
  struct Running {
    pid_t pid = 0;
    bool told = false;       // Its conduct was sent.
    bool suspended = false;  // It cannot answer.
  };

  enum class Sight { kAll, kPart, kWrong };  // Of what is to be seen.

  struct FailingStarts {
    int count = 0;
    std::filesystem::path directory;  // Is missing as long as they fail.
  };

  void prepare(ChildSpec* child, const std::string& path, bool instance);
  void prepare(SupervisorSpec* tree, const std::string& path);
  std::filesystem::path directory_of(const std::string& path, bool instance) const;
  bool is_dynamic(const std::string& supervisor) const;
  void see(const Event& event);
  void do_one(const Action& action, bool alone);
  bool end_process(const Action& action, bool alone);
  void fail_starts(const std::string& path, int count);
  void run_for_a_moment();
  void tell_conduct(const std::string& path, Running* running);
  bool is_settled() const;
  std::int64_t earliest_end(const Action& action);
  std::string settle(std::int64_t earliest, const std::function<Sight()>& look);

  std::filesystem::path directory_;
  Transcript transcript_;
  EventSink transcribe_;
  ProcessControl control_;
  std::map<std::string, Running> running_;
  std::map<std::string, Conduct> conducts_;
  std::map<std::string, FailingStarts> failing_starts_;
  bool booted_ = false;
  std::string seen_;  // Since the last act().
  std::vector<std::string> complaints_;
  std::optional<SupervisionTree> tree_;  // The last, so that it ends before what it uses.
};

}  // namespace crashworthy
