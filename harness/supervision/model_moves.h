// What a model of supervisors is held against a tree with: random trees, random things that happen
// to them, and what is seen, in words. For duels over simulated and over real processes.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <map>
#include <string>
#include <vector>

#include "harness/os/random.h"
#include "harness/supervision/behaviours.h"
#include "harness/supervision/model.h"
#include "harness/supervision/tree_logic.h"

namespace crashworthy {

// Makes trees of up to three levels. Borrows `random`.
class TreeMaker {
 public:
  explicit TreeMaker(Random* random) : random_(*random) {}

  SupervisorSpec tree(int depth);
  // One that may join `above`, which is at `depth`.
  ChildSpec child(const std::string& id, const SupervisorSpec& above, int depth);

 private:
  template <typename T>
  T pick(std::initializer_list<T> of) {
    return *(of.begin() + random_.below(of.size()));
  }
  Random& random_;
};

// Makes things happen. Borrows both.
class ActionMaker {
 public:
  ActionMaker(Random* random, TreeMaker* trees) : random_(*random), trees_(*trees) {}

  // What may happen next in `model`. While something waits at a suspended supervisor, nothing is
  // added elsewhere: whose turn would be first is nobody's promise.
  Action next(const Model& model);
  // What may happen next.
  Action any(const Model::Known& known);

 private:
  using Paths = std::vector<std::string>;

  static bool goes_to(const Action& action, const std::string& supervisor);
  Action process_ends(const Model::Known& known);
  Action start(const Model::Known& known);
  Action resume_one(const Model::Known& known);
  Action count(const Model::Known& known);
  std::string some_path(const Model::Known& known);
  std::string path_or_root(const Model::Known& known);
  const std::string& pick(const Paths& paths) { return paths[random_.below(paths.size())]; }

  Random& random_;
  TreeMaker& trees_;
};

// The same text as Model::text(), from the logic.
std::string text_of(const TreeLogic& logic, std::int64_t now);
// "one_for_one 3 in 9 s, never: a permanent 5s, b transient kill significant [...],"
std::string spec_text(const SupervisorSpec& tree);
std::string action_text(const Action& action);
// Those of the lines in `seen` that are answers.
std::vector<std::string> answers_in(const std::string& seen);

}  // namespace crashworthy
