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
  bool empty() const { return injections_.empty(); }

  // As of an Injection, for all of them.
  Result<void> arm(LaunchPlan& launch);
  void launched(SubjectView& subject, ProbeRing& ring);
  void look(SubjectView& subject, ProbeRing& ring);
  std::int64_t next_ns(const SubjectView& subject) const;
  std::vector<int> descriptors() const;
  void finish(const InjectionEvidence& evidence);

  // Whether any has fired by now.
  bool fired() const;

 private:
  Moment moment_of(const SubjectView& subject) const;
  void watch(const Moment& moment, ProbeRing& ring) const;

  std::vector<std::unique_ptr<Injection>> injections_;
};

}  // namespace crashworthy
