#!/bin/sh
# runit.sh LIST OUT WORKERS: runsvdir with a runsv for each share.
. "$(dirname "$0")/shares.sh"
make_services runit-finish.sh
echo $$ > "$PEER_STATE/pid"
exec runsvdir "$PEER_STATE/services"
