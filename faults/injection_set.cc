#include "faults/injection_set.h"

#include <algorithm>

namespace crashworthy {

Result<void> InjectionSet::arm(LaunchPlan& launch) {
  for (const auto& injection : injections_) {
    if (auto armed = injection->arm(launch); !armed) return armed;
  }
  for (const auto& injection : injections_) injection->all_armed(launch);
  return {};
}

void InjectionSet::launched(SubjectView& subject, ProbeRing& ring) {
  for (const auto& injection : injections_) injection->launched(subject);
  look(subject, ring);
}

void InjectionSet::look(SubjectView& subject, ProbeRing& ring) {
  ring.clear_event();
  std::size_t before = 0;
  do {  // Where they take turns, one may have waited for another.
    before = turn();
    for (std::size_t i = 0; i < injections_.size(); ++i)
      injections_[i]->look(subject, moment_of(subject), may_fire(i));
  } while (turn() > before);
  watch(moment_of(subject), ring);
}

std::int64_t InjectionSet::next_ns(const SubjectView& subject) const {
  const Moment moment = moment_of(subject);
  std::int64_t next = INT64_MAX;
  for (const auto& injection : injections_) next = std::min(next, injection->next_ns(moment));
  return next;
}

std::vector<int> InjectionSet::descriptors() const {
  std::vector<int> all;
  for (const auto& injection : injections_) {
    if (injection->idle()) continue;  // Nobody would take what is readable there.
    for (const int descriptor : injection->descriptors()) all.push_back(descriptor);
  }
  return all;
}

void InjectionSet::finish(const InjectionEvidence& evidence) {
  for (const auto& injection : injections_) injection->finish(evidence);
}

void InjectionSet::abandon() {
  for (const auto& injection : injections_) injection->abandon();
}

// How much of the order has been done.
std::size_t InjectionSet::turn() const {
  std::vector<std::int64_t> firings(injections_.size());
  for (std::size_t at = 0; at < order_.size(); ++at) {
    const std::size_t number = order_[at];
    const Injection& next = *injections_[number];
    if (++firings[number] > next.firings() && !next.skipped()) return at;
  }
  return order_.size();
}

std::int64_t InjectionSet::may_fire(std::size_t number) const {
  const auto next = order_.begin() + static_cast<std::ptrdiff_t>(turn());
  const auto own = std::find(next, order_.end(), number);
  if (own == order_.end()) return INT64_MAX;  // It comes no more in what is repeated.
  return own == next ? 1 : 0;
}

bool InjectionSet::fired() const {
  return std::any_of(injections_.begin(), injections_.end(),
                     [](const auto& injection) { return injection->fired(); });
}

Moment InjectionSet::moment_of(const SubjectView& subject) const {
  Moment moment = subject.moment();
  for (const auto& injection : injections_)
    moment.fired_ns = std::max(moment.fired_ns, injection->fired_ns());
  return moment;
}

// What of the probe's events may make somebody's moment.
void InjectionSet::watch(const Moment& moment, ProbeRing& ring) const {
  std::uint64_t item = 0;
  bool waits = false;
  for (const auto& injection : injections_) {
    const auto next = injection->next_item();
    if (next && (item == 0 || *next < item)) item = *next;
    waits = waits || injection->waits_for_victim();
  }
  ring.watch(ProbeEvent::kTaken, item);
  ring.watch(ProbeEvent::kStarted, waits ? ring.count(ProbeEvent::kStarted) + 1 : 0);
  ring.watch(ProbeEvent::kWorkerReady, moment.ready_ns == 0 ? 1 : 0);
  ring.watch(ProbeEvent::kDelivered,
             moment.fired_ns > moment.last_output_ns ? ring.count(ProbeEvent::kDelivered) + 1 : 0);
}

}  // namespace crashworthy
