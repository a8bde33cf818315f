// native.*: with a point (a name with a dot) the program's own fault point does it; with an ELF
// symbol, or without either, we do it by tracing.
#include "faults/mechanisms.h"

namespace crashworthy {

std::unique_ptr<Injection> make_native_injection(InjectionSetup setup) {
  const bool is_point = setup.fault.point.find('.') != std::string::npos;
  return is_point ? make_point_injection(std::move(setup)) : make_trace_injection(std::move(setup));
}

}  // namespace crashworthy
