// The injections of one trial, which share its probe and its time.
#pragma once

#include <memory>
#include <vector>

#include "faults/injection.h"
#include "harness/probe/probe.h"

namespace crashworthy {

class InjectionSet {
 public:
  void add(std::unique_ptr<Injection> injection) { injections_.push_back(std::move(injection)); }
  // Of a repetition: which of them fires next, each time (numbers in the order of add()). One whose
  // moment has come waits for its turn. Counted ones fire when they do; their turn is their first
  // firing.
  void set_order(std::vector<std::size_t> order) { order_ = std::move(order); }
  bool empty() const { return injections_.empty(); }

  // As of an Injection, for all of them.
  Result<void> arm(LaunchPlan& launch);
  void launched(SubjectView& subject, ProbeRing& ring);
  void look(SubjectView& subject, ProbeRing& ring);
  std::int64_t next_ns(const SubjectView& subject) const;
  std::vector<int> descriptors() const;
  void finish(const InjectionEvidence& evidence);
  void abandon();

  // Whether any has fired by now.
  bool fired() const;

 private:
  Moment moment_of(const SubjectView& subject) const;
  void watch(const Moment& moment, ProbeRing& ring) const;
  std::size_t turn() const;
  std::int64_t may_fire(std::size_t number) const;

  std::vector<std::unique_ptr<Injection>> injections_;
  std::vector<std::size_t> order_;
};

}  // namespace crashworthy
