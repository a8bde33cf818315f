// A ledger whose file has been edited in any way: it is refused untouched, or opened with the first
// of its records; never is a record wrong, and nothing breaks.
#include "harness/worker/persistent_ledger.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "harness/os/file.h"

namespace crashworthy {
namespace {

struct Stored {
  PersistentLedger::Key key;
  std::int32_t outcome = 0;
  std::string bytes;
  friend bool operator==(const Stored&, const Stored&) = default;
};

const std::vector<Stored> kRecords{
    {{1, 0}, 0, "one"}, {{1, 1}, -1, ""}, {{2, 0}, 2, std::string(70, '\xC7')}, {{3, 9}, 3, "end"}};

PersistentLedger::Options options() {
  PersistentLedger::Options quick;
  quick.sync = PersistentLedger::Sync::kNone;
  return quick;
}

// The file of a ledger with kRecords.
std::string make_file() {
  std::string directory = "/tmp/crashworthy-ledger-fuzz-XXXXXX";
  CRASHWORTHY_CHECK(::mkdtemp(directory.data()) != nullptr);
  const std::string path = directory + "/ledger";
  {
    auto ledger = PersistentLedger::open(path, options());
    for (const Stored& record : kRecords) {
      CRASHWORTHY_CHECK(ledger->commit(record.key, record.outcome, record.bytes).ok());
    }
  }
  auto content = read_file(path);
  ::unlink(path.c_str());
  ::rmdir(directory.c_str());
  return *content;
}

// Each four bytes of `edits` are an edit: where (two bytes), what, and how.
std::string edited(std::string file, const std::uint8_t* edits, std::size_t size) {
  for (std::size_t i = 0; i + 4 <= size && !file.empty(); i += 4) {
    const std::size_t at = (edits[i] | edits[i + 1] << 8) % file.size();
    const std::size_t count = edits[i + 2];
    switch (edits[i + 3] % 6) {
      case 0:
        file[at] = static_cast<char>(edits[i + 2]);
        break;
      case 1:
        file.resize(at);
        break;
      case 2:
        file.erase(at, count);
        break;
      case 3:
        file.append(file.substr(at, count));
        break;
      case 4:
        file.insert(file.size() / 2, file.substr(at, count));
        break;
      default:
        file.replace(at, count, count, '\0');
    }
  }
  return file;
}

void check(const PersistentLedger& ledger) {
  std::size_t count = 0;
  const auto read = ledger.for_each([&](const PersistentLedger::Record& record) -> Result<void> {
    CRASHWORTHY_CHECK(count < kRecords.size());
    const Stored found{record.key, record.outcome, std::string(record.bytes)};
    CRASHWORTHY_CHECK(found == kRecords[count++], count);
    return {};
  });
  CRASHWORTHY_CHECK(read.ok() && count == ledger.size());
}

}  // namespace
}  // namespace crashworthy

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace crashworthy;
  static const std::string file = make_file();
  static const int memory = ::memfd_create("ledger", MFD_CLOEXEC);
  static const std::string path = "/proc/self/fd/" + std::to_string(memory);
  const std::string content = edited(file, data, size);
  CRASHWORTHY_CHECK(::ftruncate(memory, 0) == 0);
  CRASHWORTHY_CHECK(::pwrite(memory, content.data(), content.size(), 0) ==
                    static_cast<ssize_t>(content.size()));
  auto ledger = PersistentLedger::open(path, options());
  if (!ledger) {
    CRASHWORTHY_CHECK(*read_file(path) == content);
    return 0;
  }
  check(*ledger);
  // What is appended behind the cut is there the next time.
  CRASHWORTHY_CHECK(ledger->commit({4, 0}, 4, "more").ok());
  { const PersistentLedger closed = std::move(*ledger); }
  auto again = PersistentLedger::open(path, options());
  CRASHWORTHY_CHECK(again.ok() && again->committed({4, 0}) && again->cut_bytes() == 0);
  return 0;
}
