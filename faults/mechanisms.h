// What makes the injections of each mechanism, for the rows of the catalogue.
#pragma once

#include <memory>

#include "faults/injection.h"

namespace crashworthy {

std::unique_ptr<Injection> make_signal_injection(InjectionSetup setup);
std::unique_ptr<Injection> make_hang_injection(InjectionSetup setup);
std::unique_ptr<Injection> make_tree_kill_injection(InjectionSetup setup);
std::unique_ptr<Injection> make_crashloop_injection(InjectionSetup setup);
std::unique_ptr<Injection> make_start_injection(InjectionSetup setup);
std::unique_ptr<Injection> make_point_injection(InjectionSetup setup);
std::unique_ptr<Injection> make_alloc_injection(InjectionSetup setup);
std::unique_ptr<Injection> make_trace_injection(InjectionSetup setup);
// One of the two: see native.cc.
std::unique_ptr<Injection> make_native_injection(InjectionSetup setup);
std::unique_ptr<Injection> make_limit_injection(InjectionSetup setup);
std::unique_ptr<Injection> make_input_injection(InjectionSetup setup);
std::unique_ptr<Injection> make_relay_injection(InjectionSetup setup);
std::unique_ptr<Injection> make_full_fs_injection(InjectionSetup setup);
std::unique_ptr<Injection> make_oom_injection(InjectionSetup setup);
std::unique_ptr<Injection> make_cpu_injection(InjectionSetup setup);
std::unique_ptr<Injection> make_notify_injection(InjectionSetup setup);

}  // namespace crashworthy
