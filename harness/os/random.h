// The one source of chance: a small seeded generator whose stream is the same on every machine and
// library.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace crashworthy {

// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014). Not for cryptography. Not thread-safe.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  std::uint64_t next() {
    std::uint64_t z = (state_ += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  // Uniform in [0, bound), by rejection; `bound` > 0.
  std::uint64_t below(std::uint64_t bound) {
    const std::uint64_t limit = ~std::uint64_t{0} - ~std::uint64_t{0} % bound;
    std::uint64_t value = next();
    while (value >= limit) value = next();
    return value % bound;
  }
  // Uniform in [0, 1).
  double unit() { return static_cast<double>(next() >> 11) * 0x1p-53; }

  template <typename T>
  void shuffle(std::vector<T>& values) {
    for (std::size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[below(i)]);
  }

 private:
  std::uint64_t state_;
};

// An independent seed for the part `name`, number `index`, of whatever `seed` governs.
inline std::uint64_t derive_seed(std::uint64_t seed, std::string_view name,
                                 std::uint64_t index = 0) {
  std::uint64_t hash = 0xcbf29ce484222325u ^ seed;  // FNV-1a
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return Random(hash ^ (index * 0x9E3779B97F4A7C15u)).next();
}

}  // namespace crashworthy
