#!/usr/bin/env bash
# A cluster of three with a million 256-byte keys: what each node keeps in memory, and how long a node that
# is killed with -9 takes from its start until it serves linearizable reads again.
# Usage: benches/restart/run.sh [KEYS]      (1,000,000 unless given)
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
source "$(dirname "$0")/../lib.sh"
keys=${1:-1000000}

need curl curl
build_konsen --bin konsen
start_cluster 3
value=$(printf 'v%.0s' $(seq 256))
began=$(date +%s%N)
for first in $(seq 0 1000 $((keys - 1))); do
  seq "$first" $((first + 999)) | sed "s/.*/key&=$value/" | paste -sd '&' >"$work/form"
  curl --silent --show-error --fail --data "@$work/form" "$leader/konsen"
done
echo "$keys keys of 256 bytes written in $((($(date +%s%N) - began) / 1000000)) ms, a thousand a request"

resident() {
  local pid
  for pid in $(pgrep -P "${children[0]}"); do
    printf '  pid %d: %d MiB resident, %d MiB at most\n' "$pid" \
      $(($(awk '/^VmRSS/ {print $2}' "/proc/$pid/status") / 1024)) \
      $(($(awk '/^VmHWM/ {print $2}' "/proc/$pid/status") / 1024))
  done
}
echo "after the load:"
resident
for name in node1 node2 node3; do
  for victim in $(pgrep -P "${children[0]}"); do
    [ "$(basename "$(readlink "/proc/$victim/cwd")")" != "$name" ] || break
  done
  endpoint=$(sed -n "s|^  $name  \(http://[^ ]*\).*|\1|p" "$work/dev.out")
  kill -9 "$victim"
  began=$(date +%s%N)
  until curl --silent --fail --max-time 5 "$endpoint/readyz" >/dev/null; do sleep 0.01; done
  echo "$name: killed, started again by the supervisor, and ready after $((($(date +%s%N) - began) / 1000000)) ms"
done
echo "after the restarts:"
resident
