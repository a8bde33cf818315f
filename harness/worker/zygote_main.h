// The life of a zygote, after the fork.
#pragma once

#include <sys/types.h>

#include "harness/os/unique_fd.h"
#include "harness/worker/zygote.h"

namespace crashworthy {

// Makes a forked process its own: default signal dispositions, nothing blocked, SIGPIPE ignored.
void settle_in();

// Forks what `socket` asks for and tells what became of it, until the process behind
// `coordinator` (a pidfd), or the socket, ends; then kills all it has forked and exits. `twin` is
// the pidfd of the other zygote, or empty: when the coordinator is dead, that one is killed too,
// since it may be stopped.
[[noreturn]] void run_zygote(const ZygoteBody& body, UniqueFd socket, UniqueFd coordinator,
                             UniqueFd twin) noexcept;

}  // namespace crashworthy
