#!/bin/sh
# parallel.sh LIST OUT WORKERS: GNU parallel, a process for each item, three tries.
exec parallel --will-cite --jobs "$3" --retries 3 --arg-file "$1" "$(dirname "$0")/one.py" "$2" '{}'
