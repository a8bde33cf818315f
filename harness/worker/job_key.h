// JobKey: the name of a job among those in flight.
#pragma once

#include <cstddef>
#include <cstdint>

namespace crashworthy {

struct JobKey {
  std::uint64_t item = 0;
  std::uint32_t part = 0;
  friend bool operator==(const JobKey&, const JobKey&) = default;
};

struct JobKeyHash {
  std::size_t operator()(const JobKey& key) const {
    return static_cast<std::size_t>((key.item ^ (std::uint64_t{key.part} << 32)) *
                                    0x9E3779B97F4A7C15u);
  }
};

}  // namespace crashworthy
