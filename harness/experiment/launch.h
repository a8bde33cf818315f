// From what the injections want of a launch to what the launcher is asked for.
#pragma once

#include "faults/launch_plan.h"
#include "harness/process/launcher.h"

namespace crashworthy {

LaunchSpec launch_spec(const LaunchPlan& plan);

// Fails where our limit of open files leaves no room for the numbers that a subject is given its
// descriptors under (LaunchPlan::inherit()): to be asked before anything is made.
Result<void> check_descriptor_limit();

}  // namespace crashworthy
