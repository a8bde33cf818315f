// What the machine is (fingerprint) and how busy it is (conditions): results of different machines
// are not compared.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace crashworthy {

// Processor, memory, kernel, libraries, build: everything that makes results incomparable when it
// differs.
nlohmann::json read_fingerprint();
// 16 hexadecimal digits of a hash over read_fingerprint().
std::string fingerprint_hash(const nlohmann::json& fingerprint);

// Load, pressure stall information, stolen time: recorded with every trial.
nlohmann::json read_conditions();

// Warnings of a machine on which times mean little: busy, or with stolen time; each says what to
// try.
std::vector<std::string> noise_warnings(const nlohmann::json& conditions);

}  // namespace crashworthy
