// The keys that rows of several families have.
#pragma once

#include "faults/catalogue.h"

namespace crashworthy {
namespace keys {

inline constexpr FaultKey kRole{
    "victim.role", "worker (default): a process that executes items; main; supervisor; any"};

inline constexpr FaultKey kHolding{
    "victim.holding_item",
    "true: only a worker that is executing an item at that moment (needs "
    "the probe); default false"};

inline constexpr FaultKey kWorker{"victim.worker",
                                  "N: the worker at that place, from 0 (needs the probe)"};

inline constexpr FaultKey kIncarnation{
    "victim.incarnation", "N: only in that life of its place, from 1 (needs the probe)"};

inline constexpr FaultKey kCommand{
    "victim.command", "GLOB: a process of the subject's tree with that name or command line"};

inline constexpr FaultKey kChild{"victim.child",
                                 "N: the N-th process of the tree by birth; 1 is the main"};

inline constexpr FaultKey kPick{
    "victim.pick", "random (default), oldest, newest, all, or a number: so many at random"};

inline constexpr FaultKey kAfter{
    "when.after",
    "DURATION or [LOW, HIGH] since the start of the subject; without any `when`, a moment in the "
    "middle of the golden run's duration is drawn once a block (100ms where there is none)"};

inline constexpr FaultKey kItem{
    "when.item",
    "N or [LOW, HIGH]: when the N-th item has been taken (needs the probe); a "
    "range is drawn once a block"};

inline constexpr FaultKey kPhase{"when.phase", "startup, steady, delivering"};

inline constexpr FaultKey kEvent{"when.event",
                                 "ready, first_output, recovered or fired, with a delay if wanted: "
                                 "\"recovered+2s\""};

inline constexpr FaultKey kAll{"when.all",
                               "a list of conditions, all of which must have come true"};

inline constexpr FaultKey kAny{"when.any",
                               "a list of conditions, one of which must have come true"};

inline constexpr FaultKey kThen{
    "when.then", "a list of conditions, each counted from when the one before came true"};

inline constexpr FaultKey kRepeat{
    "when.repeat", "{\"times\": T, \"gap\": DURATION or EVENT}: fire T times; default once"};

inline constexpr FaultKey kHit{
    "when.hit",
    "N or [LOW, HIGH]: the N-th time the point is passed, counted over all "
    "processes of the trial (from when other conditions hold); default 1"};

inline constexpr FaultKey kProbability{"when.probability",
                                       "P: each hit or call fires with this chance; default 1"};

}  // namespace keys

// The rows of each family.
std::span<const FaultRow> process_rows();
std::span<const FaultRow> native_rows();
std::span<const FaultRow> resource_rows();
std::span<const FaultRow> io_rows();
std::span<const FaultRow> input_rows();
std::span<const FaultRow> ipc_rows();

}  // namespace crashworthy
