// What wakes the coordinator, which polls it: a pipe, whose inode tells it from all other files.
// (All eventfds share one.)
#pragma once

#include "harness/os/file_identity.h"
#include "harness/os/result.h"
#include "harness/os/unique_fd.h"

namespace crashworthy {

class Doorbell {
 public:
  static Result<Doorbell> create();

  // The coordinator: readable once somebody has rung.
  int fd() const { return listener_.get(); }
  void clear() const;
  // From any thread and from signal handlers.
  void ring() const;

  // In a worker process. Jobs share its descriptors: one that closes them all, and then opens a
  // file, may have made our number that file's. False when the bell is no longer there, or nobody
  // listens; nothing was written then.
  void stop_listening() { listener_.reset(); }
  [[nodiscard]] bool ring_if_there() const;

 private:
  UniqueFd listener_;
  UniqueFd bell_;
  FileIdentity pipe_;
};

}  // namespace crashworthy
