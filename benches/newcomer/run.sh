#!/usr/bin/env bash
# Fills three nodes on this machine with keys, takes a fourth in, and prints how long it takes until that has a vote, and
# how fast the snapshot came, beside what a bare QUIC stream carries in the same run, and what it costs the writes meanwhile.
# Usage: benches/newcomer/run.sh [KEYS] [VALUE_BYTES]     1,000,000 keys of 1,024 bytes unless given
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
source "$(dirname "$0")/../lib.sh"
keys=${1:-1000000}
bytes=${2:-1024}

need curl curl
need_vegeta
build_konsen --bin konsen --example bulk
bulk=${CARGO_TARGET_DIR:-$root/target}/release/examples/bulk
start_cluster 3

head -c "$bytes" /dev/zero | tr '\0' v >"$work/value"
targets() {
  seq 1 "$keys" | awk -v endpoint="$leader" -v value="$work/value" \
    '{ printf "PUT %s/v1/kv/key%d\n@%s\n\n", endpoint, $1, value }'
}
echo "writing $keys keys of $bytes bytes"
# With -lazy the list ends the attack.
targets | "$vegeta" attack -lazy -rate=0 -max-workers=64 -timeout=30s | "$vegeta" report -type=text
had=$(curl --silent "$leader/v1/status" | grep -o '"state_bytes":[0-9]*' | cut -d: -f2)
echo "state's file at the leader: $((had >> 20)) MiB"

echo "a bare QUIC stream before: $("$bulk") MiB/s"
before=$(curl --silent "$leader/v1/status" | grep -o '"revision":[0-9]*' | cut -d: -f2)
[ "$before" -ge "$keys" ] || fail "only $before of $keys keys were written"

# Adds node9 and starts it, empty, once the one that was put out has ended. Sets: began, node9.
node9=
join() {
  [ -z "$node9" ] || wait "$node9"
  rm -rf "$work/cluster/node9"
  (cd "$work/cluster" && "$konsen" member add node9 --raft-address 127.0.0.1:10909 \
    --http-address 127.0.0.1:20909 --config cluster.yml --out . --endpoints "$leader" >/dev/null 2>&1)
  began=$(date +%s.%N)
  (cd "$work/cluster/node9" && exec ./konsen serve --config cluster.yml >>"$work/node9.log" 2>&1) &
  node9=$!
  children+=("$node9")
}

wait_vote() {
  until curl --silent "$leader/v1/cluster/members" | grep -o '{"name":"node9"[^}]*}' | grep -q '"voter":true'; do
    # Asking costs something, too, where all share two cores.
    sleep 0.5
  done
}

# The bytes of the newest snapshot that node9 took in, and the seconds.
transferred() {
  sed -n 's/.*the snapshot is in place.*bytes=\([0-9]*\) took=\([0-9.]*\)s.*/\1 \2/p' "$work/node9.log" | tail -n 1
}

# Writes as fast as 16 clients can, for so many seconds; prints the writes a second.
throughput() {
  seq 1 1000 | awk -v endpoint="$leader" -v value="$work/value" \
    '{ printf "PUT %s/v1/kv/hot%d\n@%s\n\n", endpoint, $1, value }' >"$work/hot"
  "$vegeta" attack -rate=0 -max-workers=16 -duration="$1s" -timeout=30s -targets="$work/hot" |
    "$vegeta" report -type=json | grep -o '"throughput":[0-9]*' | cut -d: -f2
}

for attempt in 1 2 3; do
  [ "$attempt" = 1 ] || "$konsen" member remove node9 --endpoints "$leader" >/dev/null
  : >"$work/node9.log"
  join
  wait_vote
  awk -v began="$began" -v ended="$(date +%s.%N)" 'BEGIN { printf "it votes %.1f s after its start\n", ended - began }'
  transferred |
    awk '{ printf "the snapshot: %d MiB in %.1f s, until it was in place; %.0f MiB/s\n", $1 / 1048576, $2, $1 / 1048576 / $2 }'
  echo "a bare QUIC stream after: $("$bulk") MiB/s"
done

# Once more, under load. A fourth node costs the others something for as long as it is there, so what counts is the
# same four with a transfer and without.
before=$(throughput 6)
"$konsen" member remove node9 --endpoints "$leader" >/dev/null
three=$(throughput 6)
: >"$work/node9.log"
join
during=$(throughput 6)
! grep -q 'the snapshot is in place' "$work/node9.log" || fail "the snapshot came too soon to measure writes beside it"
wait_vote
after=$(throughput 6)
echo "writes a second of four nodes: $before before, $during while the fourth is filled, $after after; of three: $three"
transferred |
  awk '{ printf "the snapshot under that load: %.0f MiB/s\n", $1 / 1048576 / $2 }'
# What a bare stream has of these cores then, and what it leaves the writes.
throughput 6 >"$work/beside" &
beside=$!
sleep 1
echo "a bare QUIC stream under that load: $("$bulk") MiB/s"
wait "$beside"
echo "writes a second beside it: $(cat "$work/beside")"
