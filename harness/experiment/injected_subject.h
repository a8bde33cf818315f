// A command under injections: its tree, its probe and its history, from before the launch until
// nothing of it is left. What a trial and `crashworthy inject` have in common.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "faults/injection_set.h"
#include "harness/experiment/process_watch.h"
#include "harness/os/clock.h"
#include "harness/process/launcher.h"
#include "results/history.h"

namespace crashworthy {

// Of a repetition: what the recorded trial did.
struct Schedule {
  // By injection, by firing: whom it strikes. Empty: as the rules choose.
  std::vector<std::vector<std::vector<VictimRule>>> victims;
  std::vector<std::size_t> order;  // Of the injections, as they fired.
};

// Who writes a history: whether that process still lives can be asked later.
nlohmann::json harness_identity();

// Derived from by what runs such a command. The destructor ends what is left of the tree and undoes
// the injections. One thread uses it.
class InjectedSubject : public SubjectView {
 public:
  ~InjectedSubject() override;
  InjectedSubject(const InjectedSubject&) = delete;
  InjectedSubject& operator=(const InjectedSubject&) = delete;

 protected:
  explicit InjectedSubject(int interrupt_fd) : interrupt_fd_(interrupt_fd) {}

  // First: the history in `directory`, and the probe.
  Result<void> open(const std::filesystem::path& directory);
  // `plan_` says what the command is; what is wanted of its launch is added to it.
  Result<void> arm(const std::vector<FaultSpec>& faults, const std::vector<Trigger>& triggers,
                   std::uint64_t seed, bool disarmed, const Schedule& schedule);
  Result<void> launch(const LaunchSpec& launch);
  // Until the command's own process has ended and what is left of its tree has had its time,
  // `deadline` has passed, or the user interrupts.
  void supervise(std::int64_t deadline);
  // Whatever is left of the tree ends; the last words of the probe are read.
  void end_subject();
  // `further`: ends that others saw than crashworthy-init.
  void judge_injections(std::vector<ObservedEnd> further);

  void phase(const char* name);
  // A failure to write is kept in `failure_`.
  void log(nlohmann::json event, bool synced = false,
           std::optional<std::int64_t> time_ns = std::nullopt);
  // The history says that this is the harness's failure, not the subject's.
  Error give_up(Error error);
  int interrupt_fd() const { return interrupt_fd_; }
  std::int64_t gone_ns() const { return gone_ns_; }  // When nothing of it was left.
  std::int64_t duration_ns() const { return (main_ended_ ? ended_ns_ : gone_ns_) - launched_ns_; }

  // What else is waited for; its outputs, say.
  virtual int output_fd() const { return -1; }
  virtual void read_outputs() {}
  // How long what is left of its tree may go on after the main process has ended.
  virtual std::int64_t linger_ns() const { return 0; }
  // Asked now and then, with the live processes: true when there is nothing to wait for any more.
  virtual bool nothing_more(const std::vector<pid_t>&) { return false; }
  // Every line of the history, before it is written.
  virtual void on_event(const nlohmann::json&) {}

  // SubjectView: what an injection may ask.
  void refresh() override { refresh(false); }
  const WorkerTracker& workers() const override { return tracker_; }
  std::int32_t main_pid() const override { return main_pid_; }
  std::int32_t supervisor_pid() const override { return main_pid_; }
  Result<UniqueFd> open(std::int32_t pid) const override { return subject_->open_process(pid); }
  std::vector<pid_t> host_pids() const override { return subject_->descendants(); }
  Moment moment() const override;

  LaunchPlan plan_;
  InjectionSet injections_;
  std::optional<HistoryWriter> history_;
  std::optional<ProbeRing> ring_;
  std::optional<Subject> subject_;
  std::optional<ProcessWatch> processes_;
  WorkerTracker tracker_;
  std::vector<ProbeRecord> records_;
  std::optional<Error> failure_;
  std::string containment_;    // Level in force and why not a better one.
  std::int32_t main_pid_ = 0;  // As the subject sees it.
  std::int64_t launched_ns_ = 0;
  std::int64_t ready_ns_ = 0;
  std::int64_t first_output_ns_ = 0;
  std::int64_t last_output_ns_ = 0;
  std::int64_t ended_ns_ = 0;
  WaitStatus main_status_;
  bool main_ended_ = false;
  bool timed_out_ = false;
  bool interrupted_ = false;
  std::int64_t end_known_ns_ = 0;  // When all outputs had been read that came before its end.
  std::int64_t childless_ns_ = 0;  // When nothing of its tree was left by itself; 0: never.
  std::int64_t orphans_ = 0;       // Processes that were left when the main one had ended.

 private:
  void refresh(bool final);
  bool wait_for_events(std::int64_t until_ns);
  void read_reports();
  void log_processes();
  void look_for_faults();
  void take_outputs();

  // What is read now and then: its descriptor (-1: none), and from when on.
  struct Source {
    int fd;
    std::int64_t from_ns;
  };
  Source connector() const;
  Source outputs() const;
  // Its descriptor when it may be read by now, else -1;
  static int due(const Source& source) { return now_ns() >= source.from_ns ? source.fd : -1; }
  // and else when to come again.
  static std::int64_t again_at(const Source& source) {
    return source.fd < 0 || now_ns() >= source.from_ns ? INT64_MAX : source.from_ns;
  }

  int interrupt_fd_;
  std::vector<ObservedEnd> ends_;
  std::int64_t gone_ns_ = 0;
  std::int64_t connector_read_ns_ = 0;
  std::int64_t outputs_read_ns_ = 0;
  bool childless_ = false;
};

}  // namespace crashworthy
