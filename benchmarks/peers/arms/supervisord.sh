#!/bin/sh
# supervisord.sh LIST OUT WORKERS: supervisord with a program for each share. Nothing listens, so the
# last share ends it, which then exits with 0.
. "$(dirname "$0")/shares.sh"
cat > "$PEER_STATE/share" <<'END'
#!/bin/sh
"$PEER_ARMS/share.py" "$PEER_LIST" "$PEER_OUT" "$1" "$PEER_WORKERS" || exit
: > "$PEER_STATE/done.$1"
set -- "$PEER_STATE"/done.*
[ $# = "$PEER_WORKERS" ] || exit 0
kill -TERM "$PPID"
END
chmod +x "$PEER_STATE/share"
cat > "$PEER_STATE/supervisord.conf" <<'END'
[supervisord]
nodaemon = true
logfile = /dev/null
logfile_maxbytes = 0
pidfile = %(ENV_PEER_STATE)s/pid

[program:share]
command = %(ENV_PEER_STATE)s/share %(process_num)d
process_name = %(process_num)d
numprocs = %(ENV_PEER_WORKERS)s
autorestart = unexpected
exitcodes = 0
startsecs = 0
stdout_logfile = NONE
stderr_logfile = NONE
END
exec supervisord -c "$PEER_STATE/supervisord.conf"
