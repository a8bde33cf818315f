#include "harness/experiment/baseline.h"

#include <fmt/format.h>

#include <algorithm>

#include "harness/experiment/text_mask.h"
#include "harness/os/file.h"

namespace crashworthy {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostNamed = 4;            // Outputs that a refusal names.
constexpr std::uintmax_t kMostText = 16u << 20;  // Longer texts are not compared line by line.

class Comparison {
 public:
  Comparison(const Golden& first, const Golden& second)
      : first_(first), second_(second), names_(names_of(first, second)) {}

  Result<Golden> run() {
    result_ = second_;
    result_.items.clear();
    result_.outputs.clear();
    std::map<std::string, std::size_t> in_first;
    for (std::size_t i = 0; i < first_.items.size(); ++i) in_first[first_.items[i].name] = i;
    for (std::size_t i = 0; i < second_.items.size(); ++i) {
      const auto other = in_first.find(second_.items[i].name);
      if (other == in_first.end()) {
        alone(second_.items[i].name, "second");
        continue;
      }
      compare(second_.items[i].name, first_.outputs[other->second], second_.outputs[i]);
      in_first.erase(other);
    }
    for (const auto& [name, item] : in_first) alone(name, "first");
    if (!differences_.empty()) return refusal();
    return std::move(result_);
  }

 private:
  static std::set<std::string> names_of(const Golden& first, const Golden& second) {
    std::set<std::string> names;
    for (const Golden* golden : {&first, &second}) {
      for (const Item& item : golden->items) names.insert(item.name);
    }
    return names;
  }

  // An output of one run only: left out if it is what a program forgot to remove.
  void alone(const std::string& name, const char* run) {
    std::set<std::string> others = names_;
    others.erase(name);
    if (is_temporary_name(name, others)) {
      result_.left_out.push_back(name);
    } else {
      differences_.push_back(fmt::format("'{}' is there after the {} run only", name, run));
    }
  }

  void compare(const std::string& name, const GoldenOutput& a, const GoldenOutput& b) {
    GoldenOutput output = b;
    if (a.bytes.empty() != b.bytes.empty()) {
      differences_.push_back(fmt::format("'{}' is there after the {} run only", name,
                                         a.bytes.empty() ? "second" : "first"));
    } else if (a.bytes != b.bytes && a.content == b.content) {
      note("by its " + b.content.substr(0, b.content.find(':')) +
           ": its bytes change from run to run");
    } else if (a.bytes != b.bytes && a.type == "text" && b.type == "text") {
      compare_texts(name, output);
    } else if (a.bytes != b.bytes) {
      differences_.push_back(fmt::format("'{}' differs in {}", name, difference(a, b)));
    }
    result_.items.push_back({name});
    result_.outputs.push_back(std::move(output));
  }

  void note(std::string how) {
    result_.canonicalised.push_back({result_.items.size(), std::move(how)});
  }

  void compare_texts(const std::string& name, GoldenOutput& output) {
    std::error_code failure;
    const bool small = fs::file_size(first_.files / name, failure) <= kMostText && !failure &&
                       fs::file_size(second_.files / name, failure) <= kMostText && !failure;
    auto a = small ? read_file(first_.files / name) : Result<std::string>(std::string());
    auto b = small ? read_file(second_.files / name) : Result<std::string>(std::string());
    if (!small || !a || !b) {
      differences_.push_back(fmt::format("'{}' differs in its text", name));
      return;
    }
    const auto lines = changing_lines(*a, *b);
    if (!lines) {
      differences_.push_back(
          fmt::format("'{}' differs in line {} of its text", name, first_different_line(*a, *b)));
      return;
    }
    output.masked_lines = *lines;
    output.content = "text:" + hash_bytes(mask_lines(*b, *lines));
    note(
        fmt::format("by its text without the numbers, dates and paths in {} line{} ({} the first): "
                    "they change from run to run",
                    lines->size(), lines->size() == 1 ? "" : "s", lines->front() + 1));
  }

  static std::string difference(const GoldenOutput& a, const GoldenOutput& b) {
    if (a.type != b.type) return fmt::format("its type ({}, then {})", a.type, b.type);
    const std::string kind = b.content.substr(0, b.content.find(':'));
    const std::string& flaw = b.flaw.empty() ? a.flaw : b.flaw;
    return fmt::format("its {}{}", kind, flaw.empty() ? "" : " (" + flaw + ")");
  }

  Error refusal() const {
    Error error;
    error.kind = ErrorKind::kNoData;
    error.message = "two fault-free runs differ, so nothing can be held against a fault: ";
    for (std::size_t i = 0; i < differences_.size() && i < kMostNamed; ++i)
      error.message += (i == 0 ? "" : "; ") + differences_[i];
    if (differences_.size() > kMostNamed)
      error.message += fmt::format("; and {} more", differences_.size() - kMostNamed);
    error.hint =
        "give the program a fixed seed or date, or one thread; or let --outputs name only what is "
        "the same after every run";
    return error;
  }

  const Golden& first_;
  const Golden& second_;
  std::set<std::string> names_;
  std::vector<std::string> differences_;
  Golden result_;
};

}  // namespace

std::vector<std::string> golden_notes(const Golden& golden) {
  std::map<std::string, std::vector<std::string>> alike;  // What is said -> of which outputs.
  for (const Canonicalised& output : golden.canonicalised)
    alike["compared " + output.how].push_back(golden.items[output.item].name);
  for (std::size_t i = 0; i < golden.outputs.size(); ++i) {
    if (!golden.outputs[i].flaw.empty())
      alike["not whole, or not decoded, without any fault: " + golden.outputs[i].flaw].push_back(
          golden.items[i].name);
  }
  for (const std::string& name : golden.left_out)
    alike["left out: a temporary file of one golden run alone"].push_back(name);
  std::vector<std::string> notes;
  for (const auto& [what, names] : alike) {
    const std::string more = names.size() == 1 ? "" : fmt::format(" and {} more", names.size() - 1);
    notes.push_back(fmt::format("'{}'{}: {}", names.front(), more, what));
  }
  return notes;
}

Result<Golden> agree(const Golden& first, const Golden& second) {
  return Comparison(first, second).run();
}

}  // namespace crashworthy
