#!/bin/sh
# What runsv runs, in the service's directory, when a share has ended with code $1. A share that is
# complete stays down; the last one ends runsvdir, which then exits with 0.
[ "$1" = 0 ] || exit 0
printf d > supervise/control
: > "$PEER_STATE/done.$(basename "$PWD")"
set -- "$PEER_STATE"/done.*
[ $# = "$PEER_WORKERS" ] || exit 0
for control in "$PEER_STATE"/services/*/supervise/control; do
  printf x > "$control"
done
exec kill -TERM "$(cat "$PEER_STATE/pid")"
