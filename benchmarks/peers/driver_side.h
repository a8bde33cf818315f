// A peer: a program in the language of its users (a driver) that has workers and a retry, told by
// lines when to start an item. README.md has the lines.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "harness/os/result.h"
#include "harness/os/unique_fd.h"
#include "harness/process/shim.h"

namespace crashworthy::benchmark {

struct DriverSpec {
  std::string name;     // As the table has it.
  std::string package;  // The Debian package of argv[0].
  std::vector<std::string> argv;
};

// Owns the driver and all processes below it: none is left after the destructor, nor after this
// process, however that ends. One thread uses it.
class DriverSide {
 public:
  // Starts the driver and waits until it can take orders. `frame` is a descriptor of the tile.
  // kMissing when a package is not installed, whose name is then the message.
  static Result<DriverSide> start(const DriverSpec& spec, int frame);

  DriverSide(DriverSide&&) = default;
  DriverSide& operator=(DriverSide&&) = delete;
  // Lets the driver end by itself for up to 5 s, so that it removes what it made.
  ~DriverSide();

  // Has a trivial item or a tile begun, kills its worker, and returns nanoseconds from right before
  // that until the item is done again, or, with `known`, until the driver has the result. Returns
  // when all its workers are there again. Fails when something takes longer than kRecoveryBoundNs,
  // or when the driver ends.
  Result<double> measure(bool tile, bool known);

 private:
  DriverSide(Shim shim, UniqueFd orders, UniqueFd answers)
      : shim_(std::move(shim)), orders_(std::move(orders)), answers_(std::move(answers)) {}
  Result<void> wait_until_ready();
  Result<std::string> read_line(const std::string& what);

  Shim shim_;
  UniqueFd orders_;
  UniqueFd answers_;
  std::string unread_;
};

}  // namespace crashworthy::benchmark
