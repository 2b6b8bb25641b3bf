#!/usr/bin/env bash
# Throughput and latency of PUT and GET through three nodes on this machine with full durability, at 64
# connections and at one, beside what the machine does without konsen: floors, measured in the same run.
# Usage: benches/http/run.sh [SECONDS]      (5 a measurement unless given; about 60 s in all)
# shellcheck disable=SC2154  # the figures' variables are set by name
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
source "$(dirname "$0")/../lib.sh"
here=$root/benches/http
seconds=${1:-5}
export KEYS=10000

need wrk wrk
need curl curl
build_konsen --bin konsen --example floors
start_floors
start_cluster 3
value=$(printf 'v%.0s' $(seq 256))
for first in $(seq 0 1000 $((KEYS - 1))); do
  seq "$first" $((first + 999)) | sed "s/.*/bench&=$value/" | paste -sd '&' >"$work/form"
  curl --silent --show-error --fail --data "@$work/form" "$leader/konsen"
done

# measure NAME CONNECTIONS SCRIPT URL: prints a line; sets rate_NAME, p50_NAME, p99_NAME (microseconds).
measure() {
  local name=$1 connections=$2 script=$3 url=$4 threads=2 rate p50 p99 bad
  [ "$connections" -gt 1 ] || threads=1
  wrk -t"$threads" -c"$connections" -d"${seconds}s" --latency -s "$here/$script" "$url" >"$work/wrk.out"
  rate=$(awk '/^Requests\/sec:/ {print $2}' "$work/wrk.out")
  p50=$(latency 50%)
  p99=$(latency 99%)
  bad=$(awk '/Non-2xx/ {print $NF} /Socket errors/ {print $0}' "$work/wrk.out")
  printf '%-34s %4d  %10.0f/s  p50 %8.0f µs  p99 %8.0f µs%s\n' \
    "$5" "$connections" "$rate" "$p50" "$p99" "${bad:+  errors: $bad}"
  declare -g "rate_$name=$rate" "p50_$name=$p50" "p99_$name=$p99"
}

latency() {
  awk -v wanted="$1" '$1 == wanted {
    number = $2 + 0
    if ($2 ~ /us$/) factor = 1; else if ($2 ~ /ms$/) factor = 1000; else factor = 1000000
    print number * factor; exit }' "$work/wrk.out"
}

echo "konsen: three nodes on $(nproc) cores shared with wrk, 256-byte values, $seconds s each"
quic=$("$floors" quic)
disk=$("$floors" disk "$work/cluster")
echo "floors: QUIC round trip $quic µs, append + fdatasync $disk µs (p50)"
measure constant_64 64 get.lua "http://$constant" "axum, a constant"
measure redb_64 64 get.lua "http://$looked_up" "axum, a redb look-up"
measure put_64 64 put.lua "$leader" "konsen PUT, at the leader"
measure get_64 64 get.lua "$leader" "konsen linearizable GET, leader"
measure constant_1 1 get.lua "http://$constant" "axum, a constant"
measure put_1 1 put.lua "$leader" "konsen PUT, at the leader"
measure get_1 1 get.lua "$leader" "konsen linearizable GET, leader"
for follower in "${endpoints[@]}"; do [ "$follower" = "$leader" ] || break; done
measure follower_64 64 get.lua "$follower" "konsen linearizable GET, follower"
measure follower_1 1 get.lua "$follower" "konsen linearizable GET, follower"

ratio() {
  awk -v text="$1" -v value="$2" -v floor="$3" -v unit="$4" -v goal="$5" 'BEGIN {
    if (unit == "%") printf "%-58s %7.1f %%  (goal: at least %s %%)\n", text, 100 * value / floor, goal
    else if (unit == "x") printf "%-58s %7.2f ×  (goal: at most %s)\n", text, value / floor, goal
    else printf "%-58s %7.1f ms (goal: under %s)\n", text, value / 1000, goal }'
}
echo
ratio "64 connections: PUT/s of a constant's" "$rate_put_64" "$rate_constant_64" % 12
ratio "64 connections: GET/s of a redb look-up's" "$rate_get_64" "$rate_redb_64" % 35
ratio "64 connections: PUT p99" "$p99_put_64" 1 ms 25
ratio "64 connections: GET p99" "$p99_get_64" 1 ms 10
ratio "one connection: PUT p50 of axum + QUIC + fdatasync" "$p50_put_1" \
  "$(awk "BEGIN {print $p50_constant_1 + $quic + $disk}")" x 3
ratio "one connection: GET p50 of axum + QUIC" "$p50_get_1" \
  "$(awk "BEGIN {print $p50_constant_1 + $quic}")" x 3
