#include "harness/worker/explore.h"

#include <ucontext.h>

#include <algorithm>
#include <array>
#include <bit>
#include <deque>
#include <memory>
#include <utility>

#include "harness/os/check.h"

namespace crashworthy::explore {
namespace {

constexpr std::size_t kMaxActors = 8;
constexpr std::size_t kMaxWords = 4;  // Of one wait.
constexpr std::size_t kMaxSteps = 2000;
constexpr std::size_t kStackBytes = std::size_t{64} * 1024;

// Each actor is three threads to the scheduler: its program, the emptying of its buffer, its crash.
enum class Part : std::uint32_t { kProgram, kFlush, kCrash };
constexpr std::uint32_t kParts = 3;
using Thread = std::uint32_t;
using Threads = std::uint64_t;  // A set.
constexpr Thread thread_of(ActorId actor, Part part) {
  return actor * kParts + static_cast<std::uint32_t>(part);
}
constexpr ActorId actor_of(Thread thread) { return thread / kParts; }
constexpr Part part_of(Thread thread) { return static_cast<Part>(thread % kParts); }
// That nobody crashes any more, where only that is possible.
constexpr Thread kStop = kMaxActors * kParts;
constexpr Threads bit(Thread thread) { return Threads{1} << thread; }

enum class Kind {
  kStart,
  kLoad,
  kBuffer,  // A store that is not seq_cst.
  kStore,
  kAdd,
  kWait,
  kAsleep,  // In a wait that has begun.
  kWake,
  kPost,
  kPoll,
  kAwaitDeath
};
constexpr std::array<std::string_view, 11> kKindNames{
    "starts", "load", "store (buffered)", "store", "fetch_add", "wait", "wakes", "wake up",
    "post",   "poll", "sees death of"};

// The next step of a program.
struct Step {
  Kind kind = Kind::kStart;
  std::size_t words = 0;
  std::array<Expected, kMaxWords> word{};
  ActorId actor = 0;  // Whose death is awaited.

  bool writes() const {
    return kind == Kind::kStore || kind == Kind::kAdd || kind == Kind::kWake || kind == Kind::kPost;
  }
  bool drains() const { return kind == Kind::kStore || kind == Kind::kAdd; }
  // What others see of it, or of a crash behind it.
  bool effect() const {
    return writes() || kind == Kind::kBuffer || kind == Kind::kStart || kind == Kind::kWait;
  }
};

struct Actor {
  std::string name;
  std::function<void()> body;
  bool may_crash = false;
  ucontext_t context{};
  Step next;
  bool effect = false;  // Of its last step.
  bool woken = false;
  bool finished = false;
  bool crashed = false;
  std::deque<Expected> buffer;
};

// A point of the schedule at which one thread was chosen.
struct Choice {
  Threads enabled = 0;
  Threads sleeping = 0;  // What was tried before, and what has happened since does not change it.
  Threads tried = 0;
  Thread chosen = 0;
};

// Kept between the schedules.
std::array<std::unique_ptr<char[]>, kMaxActors> stacks;

class Execution final : public Schedule {
 public:
  explicit Execution(const Bounds& bounds) : bounds_(bounds) {}
  Execution(const Execution&) = delete;
  Execution& operator=(const Execution&) = delete;

  ActorId actor(std::string name, std::function<void()> body, bool may_crash) override {
    CRASHWORTHY_CHECK(actors_.size() < kMaxActors);
    Actor& made = actors_.emplace_back();
    made.name = std::move(name);
    made.body = std::move(body);
    made.may_crash = may_crash;
    return static_cast<ActorId>(actors_.size() - 1);
  }
  void at_end(std::function<void()> check) override { check_ = std::move(check); }
  void expect(bool holds, std::string_view what) override {
    if (!holds && !violation) violation = std::string(what);
  }
  bool finished(ActorId actor) const override { return actors_[actor].finished; }
  bool crashed(ActorId actor) const override { return actors_[actor].crashed; }

  void start() {
    for (std::size_t i = 0; i < actors_.size(); ++i) {
      if (!stacks[i]) stacks[i] = std::make_unique<char[]>(kStackBytes);
      ucontext_t& context = actors_[i].context;
      ::getcontext(&context);
      context.uc_stack.ss_sp = stacks[i].get();
      context.uc_stack.ss_size = kStackBytes;
      context.uc_link = nullptr;
      ::makecontext(&context, &Execution::enter, 0);
    }
  }

  Threads enabled() const {
    if (stopped_) return 0;
    Threads all = 0;
    Threads crashes = 0;
    for (ActorId i = 0; i < actors_.size(); ++i) {
      const Actor& actor = actors_[i];
      if (!actor.buffer.empty()) all |= bit(thread_of(i, Part::kFlush));
      if (actor.finished || actor.crashed) continue;
      if (can_step(actor)) all |= bit(thread_of(i, Part::kProgram));
      if (actor.may_crash && actor.effect && crashes_ < bounds_.crashes) {
        crashes |= bit(thread_of(i, Part::kCrash));
      }
    }
    if (all == 0 && crashes != 0) all = bit(kStop);
    return all | crashes;
  }

  // Whether the order of the two threads' next steps makes no difference; both are enabled.
  bool independent(Thread a, Thread b) const {
    if (a == kStop || b == kStop) return false;
    if (part_of(a) == Part::kCrash && part_of(b) == Part::kCrash) return false;
    if (part_of(a) == Part::kCrash || part_of(b) == Part::kCrash) {
      const bool own = actor_of(a) == actor_of(b);
      return !own || part_of(a) == Part::kFlush || part_of(b) == Part::kFlush;
    }
    const Step first = step_of(a);
    const Step second = step_of(b);
    if (actor_of(a) == actor_of(b)) {
      // A program, and its own buffer, from which its loads are answered as from memory.
      const Kind kind = part_of(a) == Part::kProgram ? first.kind : second.kind;
      if (kind == Kind::kLoad || kind == Kind::kWait) return true;
    }
    if (!first.writes() && !second.writes()) return true;
    for (std::size_t i = 0; i < first.words; ++i) {
      for (std::size_t j = 0; j < second.words; ++j) {
        if (first.word[i].word == second.word[j].word) return false;
      }
    }
    return true;
  }

  std::string describe(Thread thread) const {
    if (thread == kStop) return "nobody crashes";
    const Actor& actor = actors_[actor_of(thread)];
    if (part_of(thread) == Part::kCrash) return actor.name + " crashes";
    const Step step = part_of(thread) == Part::kFlush ? step_of(thread) : actor.next;
    std::string text = actor.name + ": ";
    text += part_of(thread) == Part::kFlush ? "a store arrives"
                                            : kKindNames[static_cast<std::size_t>(step.kind)];
    if (step.kind == Kind::kAwaitDeath) return text + " " + actors_[step.actor].name;
    for (std::size_t i = 0; i < step.words; ++i) {
      const Expected& word = step.word[i];
      text += " w" + std::to_string(word.word) + "=" +
              std::to_string(step.kind == Kind::kLoad ? visible(actor, word.word) : word.value);
    }
    return text;
  }

  void take(Thread thread) {
    if (thread == kStop) {
      stopped_ = true;
      return;
    }
    Actor& actor = actors_[actor_of(thread)];
    switch (part_of(thread)) {
      case Part::kFlush:
        memory_[actor.buffer.front().word] = actor.buffer.front().value;
        return actor.buffer.pop_front();
      case Part::kCrash:
        actor.crashed = true;
        ++crashes_;
        return;
      case Part::kProgram:
        break;
    }
    actor.effect = actor.next.effect();
    if (actor.next.kind == Kind::kWait && matches(actor)) {
      actor.next.kind = Kind::kAsleep;  // The program goes on when it is woken.
      actor.woken = false;
      return;
    }
    running_ = &actor;
    ::swapcontext(&scheduler_, &actor.context);
    running_ = nullptr;
  }

  void end() {
    if (check_ && !violation) check_();
  }

  // ---- For the running actor, or for nobody. ----

  WordId add(std::uint64_t value) {
    memory_.push_back(value);
    return static_cast<WordId>(memory_.size() - 1);
  }
  std::uint64_t load(WordId word) {
    if (running_ == nullptr) return memory_[word];
    pause({Kind::kLoad, 1, {Expected{word, 0}}, 0});
    return visible(*running_, word);
  }
  void store(WordId word, std::uint64_t value, bool buffered) {
    if (running_ == nullptr) {
      memory_[word] = value;
    } else if (buffered) {
      pause({Kind::kBuffer, 1, {Expected{word, value}}, 0});
      running_->buffer.push_back({word, value});
    } else {
      pause({Kind::kStore, 1, {Expected{word, value}}, 0});
      memory_[word] = value;
    }
  }
  std::uint64_t fetch_add(WordId word, std::uint64_t value, std::uint64_t mask) {
    if (running_ != nullptr) pause({Kind::kAdd, 1, {Expected{word, value}}, 0});
    const std::uint64_t before = memory_[word];
    memory_[word] = (before + value) & mask;
    return before;
  }
  void wait(Kind kind, std::initializer_list<Expected> words) {
    CRASHWORTHY_CHECK(words.size() <= kMaxWords);
    Step step;
    step.kind = kind;
    for (const Expected& word : words) step.word[step.words++] = word;
    pause(step);
  }
  void wake(WordId word) {
    pause({Kind::kWake, 1, {Expected{word, 0}}, 0});
    for (Actor& actor : actors_) {
      if (actor.next.kind != Kind::kAsleep) continue;
      for (std::size_t i = 0; i < actor.next.words; ++i) {
        if (actor.next.word[i].word == word) actor.woken = true;
      }
    }
  }
  void post(WordId word, std::uint64_t value) {
    pause({Kind::kPost, 1, {Expected{word, value}}, 0});
    memory_[word] = value;
  }
  void await_death(ActorId actor) {
    Step step;
    step.kind = Kind::kAwaitDeath;
    step.actor = actor;
    pause(step);
  }

  std::optional<std::string> violation;

  static Execution* current;

 private:
  static void enter() {
    Actor* actor = current->running_;
    actor->body();
    actor->finished = true;
    ::swapcontext(&actor->context, &current->scheduler_);
  }

  // Names the next step, and returns when it is to be taken.
  void pause(const Step& step) {
    Actor* actor = running_;
    CRASHWORTHY_CHECK(actor != nullptr);
    actor->next = step;
    ::swapcontext(&actor->context, &scheduler_);
  }

  bool can_step(const Actor& actor) const {
    const Step& step = actor.next;
    switch (step.kind) {
      case Kind::kAsleep:
        return actor.woken;
      case Kind::kAwaitDeath:
        return actors_[step.actor].crashed && actors_[step.actor].buffer.empty();
      case Kind::kPoll:
        return std::any_of(step.word.begin(), step.word.begin() + step.words,
                           [this](const Expected& word) { return memory_[word.word] != 0; });
      default:
        return !step.drains() || actor.buffer.empty();
    }
  }

  bool matches(const Actor& actor) const {
    return std::all_of(
        actor.next.word.begin(), actor.next.word.begin() + actor.next.words,
        [&](const Expected& word) { return visible(actor, word.word) == word.value; });
  }

  std::uint64_t visible(const Actor& actor, WordId word) const {
    for (auto entry = actor.buffer.rbegin(); entry != actor.buffer.rend(); ++entry) {
      if (entry->word == word) return entry->value;
    }
    return memory_[word];
  }

  // What the thread's next step is to memory.
  Step step_of(Thread thread) const {
    const Actor& actor = actors_[actor_of(thread)];
    if (part_of(thread) == Part::kFlush) return {Kind::kStore, 1, {actor.buffer.front()}, 0};
    Step step = actor.next;
    // Nothing of memory: into the buffer, or out of a sleep that somebody has ended.
    if (step.kind == Kind::kBuffer || step.kind == Kind::kAsleep) step.words = 0;
    return step;
  }

  const Bounds& bounds_;
  std::deque<Actor> actors_;
  std::vector<std::uint64_t> memory_;
  std::function<void()> check_;
  ucontext_t scheduler_{};
  Actor* running_ = nullptr;
  int crashes_ = 0;
  bool stopped_ = false;
};

Execution* Execution::current = nullptr;

}  // namespace

WordId add_word(std::uint64_t value) { return Execution::current->add(value); }
std::uint64_t load_word(WordId word) { return Execution::current->load(word); }
void store_word(WordId word, std::uint64_t value, bool buffered) {
  Execution::current->store(word, value, buffered);
}
std::uint64_t add_to_word(WordId word, std::uint64_t value, std::uint64_t mask) {
  return Execution::current->fetch_add(word, value, mask);
}
void wait(std::initializer_list<Expected> words) { Execution::current->wait(Kind::kWait, words); }
void wake(WordId word) { Execution::current->wake(word); }
void post(WordId word, std::uint64_t value) { Execution::current->post(word, value); }
void poll(std::initializer_list<WordId> words) {
  switch (words.size()) {
    case 1:
      return Execution::current->wait(Kind::kPoll, {{*words.begin(), 0}});
    case 2:
      return Execution::current->wait(Kind::kPoll, {{*words.begin(), 0}, {words.begin()[1], 0}});
    default:
      CRASHWORTHY_CHECK(words.size() == 3, words.size());
      return Execution::current->wait(
          Kind::kPoll, {{*words.begin(), 0}, {words.begin()[1], 0}, {words.begin()[2], 0}});
  }
}
void await_death(ActorId actor) { Execution::current->await_death(actor); }

Explored explore(const std::function<void(Schedule&)>& scenario, const Bounds& bounds) {
  Explored explored;
  std::vector<Choice> choices;
  std::vector<std::string> told;  // Of the last schedule; filled when it is run again to be told.
  // Runs one schedule: the choices so far, and then the first one possible each time.
  const auto run = [&](bool tell) {
    Execution execution(bounds);
    Execution::current = &execution;
    scenario(execution);
    execution.start();
    Threads sleeping = 0;
    for (std::size_t depth = 0;; ++depth) {
      CRASHWORTHY_CHECK(depth < kMaxSteps, "a scenario does not end");
      if (depth == choices.size()) {
        const Threads enabled = execution.violation ? 0 : execution.enabled();
        if (enabled == 0) {
          execution.end();
          ++explored.schedules;
          break;
        }
        const Threads possible = enabled & ~sleeping;
        if (possible == 0) {
          ++explored.pruned;
          break;
        }
        choices.push_back({enabled, sleeping, 0, static_cast<Thread>(std::countr_zero(possible))});
      }
      const Choice& choice = choices[depth];
      if (tell) told.push_back(execution.describe(choice.chosen));
      sleeping = 0;
      for (Threads rest = choice.sleeping | choice.tried; rest != 0; rest &= rest - 1) {
        const auto thread = static_cast<Thread>(std::countr_zero(rest));
        if (bounds.reduce && execution.independent(thread, choice.chosen)) sleeping |= bit(thread);
      }
      execution.take(choice.chosen);
      ++explored.steps;
    }
    explored.violation = execution.violation;
    Execution::current = nullptr;
  };
  for (;;) {
    run(false);
    if (explored.violation) {
      run(true);
      --explored.schedules;
      for (const std::string& step : told) explored.schedule += step + "\n";
      return explored;
    }
    if (explored.schedules >= bounds.max_schedules) return explored;
    // The last choice that has another possibility.
    for (; !choices.empty(); choices.pop_back()) {
      Choice& last = choices.back();
      last.tried |= bit(last.chosen);
      const Threads possible = last.enabled & ~last.sleeping & ~last.tried;
      if (possible == 0) continue;
      last.chosen = static_cast<Thread>(std::countr_zero(possible));
      break;
    }
    if (choices.empty()) {
      explored.complete = true;
      return explored;
    }
  }
}

}  // namespace crashworthy::explore
