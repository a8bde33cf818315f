# Sourced with LIST OUT WORKERS by arms whose supervisor knows no items. It gives, in the environment:
# PEER_ARMS, PEER_LIST, PEER_OUT, PEER_WORKERS, and PEER_STATE, a directory of this run.
set -eu
PEER_ARMS=$(cd "$(dirname "$0")" && pwd)
PEER_LIST=$(realpath "$1")
PEER_OUT=$(realpath "$2")
PEER_WORKERS=$3
PEER_STATE=$(mktemp -d)
export PEER_ARMS PEER_LIST PEER_OUT PEER_WORKERS PEER_STATE

# A directory for each share, as runit and s6 want it.
make_services() {
  number=0
  while [ "$number" -lt "$PEER_WORKERS" ]; do
    service="$PEER_STATE/services/$number"
    mkdir -p "$service"
    cat > "$service/run" <<END
#!/bin/sh
exec "\$PEER_ARMS/share.py" "\$PEER_LIST" "\$PEER_OUT" $number "\$PEER_WORKERS"
END
    cp "$PEER_ARMS/$1" "$service/finish"
    chmod +x "$service/run" "$service/finish"
    number=$((number + 1))
  done
}
