#!/bin/sh
# What s6-supervise runs, in the service's directory, when a share has ended with code $1. A share that
# is complete is not started again (125); the last one ends s6-svscan, which then exits with 0.
[ "$1" = 0 ] || exit 0
: > "$PEER_STATE/done.$(basename "$PWD")"
set -- "$PEER_STATE"/done.*
[ $# = "$PEER_WORKERS" ] && s6-svscanctl -t "$PEER_STATE/services"
exit 125
