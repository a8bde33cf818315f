#!/bin/sh
# s6.sh LIST OUT WORKERS: s6-svscan with an s6-supervise for each share.
. "$(dirname "$0")/shares.sh"
make_services s6-finish.sh
exec s6-svscan "$PEER_STATE/services"
