#!/bin/sh
# Runs the konsen node of this folder and starts it again when it ends by itself.
# Arguments are passed on to `konsen serve`. TERM or INT stops the node and then this script; HUP is passed on.
set -u

BACKOFF_MAX=30  # seconds
LIVED=5         # a node that ran this many seconds counts as having worked
FAILURES_MAX=6  # so many ends in a row without having worked, and this script gives up

SAY_MAX=2       # seconds that a line may wait for its reader

# Whoever reads standard error may be gone, or take nothing: a line is written beside this script, and is lost if it
# cannot be in time.
say() {
    printf 'bootstrap: %s\n' "$*" >&2 &
    saying=$!
    {
        sleep "$SAY_MAX"
        kill -KILL "$saying"
    } </dev/null >/dev/null 2>&1 &
    patience=$!
    wait "$saying" 2>/dev/null
    # No other signal is sure to reach a shell that has just begun; its pause ends by itself.
    kill -KILL "$patience" 2>/dev/null
    wait "$patience" 2>/dev/null
    return 0
}

unset CDPATH
cd -- "$(dirname -- "$0")" || { say "cannot enter the folder of $0"; exit 1; }
home=$(pwd)
for file in konsen cluster.yml certs/ca.crt certs/node.crt certs/node.key; do
    [ -r "$file" ] || { say "$home/$file is missing or cannot be read; copy the whole folder here, as its owner"; exit 1; }
done
[ -x ./konsen ] || { say "$home/konsen is not executable; run: chmod +x $home/konsen"; exit 1; }

for nested in */bootstrap.sh; do
    [ -e "$nested" ] || continue
    say "$home/${nested%/bootstrap.sh} is a node's folder, too: if it was copied here to replace this one, it belongs into $home itself"
done

child=
stopping=
stop() {
    stopping=1
    [ -z "$child" ] || kill -TERM "$child" 2>/dev/null
}
trap stop TERM INT
# The node looks at its certificates again.
trap '[ -z "$child" ] || kill -HUP "$child" 2>/dev/null' HUP

# A signal ends `wait` early: wait until the child is really gone.
await_child() {
    while :; do
        wait "$child"
        status=$?
        kill -0 "$child" 2>/dev/null || break
    done
}

backoff=1
failures=0
while :; do
    say "starting: $home/konsen serve --config cluster.yml $*"
    started=$(date +%s)
    ./konsen serve --config cluster.yml "$@" &
    child=$!
    # The signal may have come between the last check and here.
    [ -z "$stopping" ] || kill -TERM "$child" 2>/dev/null
    await_child
    # Whoever was interrupted in `wait` has the signal's status; ask for the child's own.
    wait "$child" 2>/dev/null
    again=$?
    [ "$again" -eq 127 ] || status=$again
    child=
    if [ -n "$stopping" ]; then
        say "stopped, status $status"
        exit "$status"
    fi
    if [ "$status" -eq 0 ]; then
        say "the node stopped in order, as one does that was removed from its cluster; not starting it again"
        exit 0
    fi
    if [ $(($(date +%s) - started)) -ge "$LIVED" ]; then
        backoff=1
        failures=0
    else
        failures=$((failures + 1))
    fi
    if [ "$failures" -ge "$FAILURES_MAX" ]; then
        say "the node ended $failures times in a row within $LIVED s, last with status $status; giving up"
        say "its own lines above say why"
        exit 1
    fi
    say "the node ended with status $status; starting it again in $backoff s"
    # In the background, so that a signal is handled at once.
    sleep "$backoff" &
    child=$!
    [ -z "$stopping" ] || kill -TERM "$child" 2>/dev/null
    wait "$child"
    child=
    [ -z "$stopping" ] || { say "stopped"; exit 0; }
    backoff=$((backoff * 2))
    [ "$backoff" -le "$BACKOFF_MAX" ] || backoff=$BACKOFF_MAX
done
