#!/usr/bin/env bash
# What it costs to be asked who you are: HTTPS, rights and the audit beside a cluster without, as throughput and as CPU of the servers.
# Clusters of three nodes take turns, each started anew with its data; medians of rounds. Prints a table in Markdown.
#
# Usage: benches/guard/run.sh, and by the environment:
#   KINDS        of plain, rights, https, audit and all (default: all five, plain first, which the others are compared with)
#   LOADS        of put, get and mixed (default: "put get")
#   CONNECTIONS  64, kept open       SECONDS_EACH  4       ROUNDS  3       KEYS  100000
#   KONSEN       a built binary; built from this tree if not given
#
# Load and servers share the machine, so each takes CPU from the other; all traffic stays on loopback.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
source "$(dirname "$0")/../lib.sh"

kinds=${KINDS:-plain rights https audit all}
loads=${LOADS:-put get}
connections=${CONNECTIONS:-64}
seconds=${SECONDS_EACH:-4}
rounds=${ROUNDS:-3}
keys=${KEYS:-100000}
need python3 python3
if [ -n "${KONSEN:-}" ]; then
  konsen=$KONSEN
else
  build_konsen --bin konsen
fi

# build KIND: three folders of nodes. A node has the binary beside its configuration, so nothing is copied twice.
build() {
  local kind=$1 https="tls: false, clientAuth: none" audit=false
  case $kind in
    https) https="tls: true, clientAuth: required" ;;
    audit) audit=true ;;
    all) https="tls: true, clientAuth: required" audit=true ;;
  esac
  mkdir -p "$work/$kind"
  python3 - >"$work/$kind/cluster.yml" <<PYTHON
import socket
def free(kind):
    with socket.socket(socket.AF_INET, kind) as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
print("servers:")
for node in 1, 2, 3: print(f"  node{node}: 127.0.0.1:{free(socket.SOCK_DGRAM)}")
print("httpServers:")
for node in 1, 2, 3: print(f"  node{node}: 127.0.0.1:{free(socket.SOCK_STREAM)}")
print("http: {$https}\naudit: {on: $audit}")
PYTHON
  (cd "$work/$kind" && "$konsen" cluster build --config cluster.yml --no-profile >build.out 2>&1) ||
    { cat "$work/$kind/build.out" >&2; fail "cluster build failed"; }
}

# start KIND: its nodes. Sets: running, shown (how the commands reach the leader).
start() {
  local kind=$1 node address
  local scheme=http
  running=()
  shown=()
  case $kind in
    https | all)
      scheme=https
      shown=(--cacert "$work/$kind/output/admin/ca.crt" --cert "$work/$kind/output/admin/admin.crt" --key "$work/$kind/output/admin/admin.key")
      ;;
    rights) [ ! -f "$work/$kind/token" ] || shown=(--token "$work/$kind/token") ;;
  esac
  for node in 1 2 3; do
    (cd "$work/$kind/output/node$node" && exec "$konsen" serve --config cluster.yml >log.txt 2>&1) &
    running+=($!)
    children+=($!)
  done
  mapfile -t addresses < <(sed -n '/^httpServers:/,$ s/^  node[123]: *//p' "$work/$kind/cluster.yml")
  for address in "${addresses[@]}"; do
    wait_ready "$scheme://$address"
  done
  local attempt
  for attempt in $(seq 300); do
    # Once it is founded, and has heard of all.
    if "$konsen" leader transfer node1 --endpoints "$scheme://${addresses[0]}" "${shown[@]}" >/dev/null 2>&1; then break; fi
    [ "$attempt" -lt 300 ] || fail "node1 does not lead"
    sleep 0.1
  done
  if [ "$kind" = rights ] && [ ! -f "$work/$kind/token" ]; then
    "$konsen" auth token create bench --user admin --out "$work/$kind/token" --timeout 20s \
      --endpoints "$scheme://${addresses[0]}" >/dev/null
    shown=(--token "$work/$kind/token")
  fi
  leader=$scheme://${addresses[0]}
}

# wait_ready URL: until the node answers who asks.
wait_ready() {
  local attempt
  for attempt in $(seq 300); do
    if "$konsen" auth whoami --endpoints "$1" "${shown[@]}" >/dev/null 2>&1; then return; fi
    sleep 0.1
  done
  fail "$1 is not ready"
}

stop() {
  local pid
  for pid in "${running[@]}"; do kill -TERM "$pid"; done
  for pid in "${running[@]}"; do wait "$pid" || true; done
}

for kind in $kinds; do build "$kind"; done
for round in $(seq "$rounds"); do
  for kind in $kinds; do
    echo "round $round of $rounds: $kind" >&2
    start "$kind"
    "$konsen" bench get --keys "$keys" --duration 1s --warmup 1s --endpoints "$leader" "${shown[@]}" >/dev/null 2>&1 ||
      fail "the cluster cannot be filled"
    for load in $loads; do
      "$konsen" bench "$load" --no-fill --keys "$keys" --connections "$connections" --duration "${seconds}s" --warmup 1s \
        --endpoints "$leader" "${shown[@]}" --output json >"$work/$kind.$load.$round.json" || fail "konsen bench failed"
    done
    stop
  done
done

python3 - "$work" "$kinds" "$loads" "$rounds" "$connections" <<'PYTHON'
import json, statistics, sys
work, kinds, loads, rounds, connections = sys.argv[1], sys.argv[2].split(), sys.argv[3].split(), int(sys.argv[4]), sys.argv[5]

def number(value, path):
    for name in path.split("."):
        value = (value or {}).get(name)
    return value or 0

print(f"| load, {connections} connections | kind | a second | of {kinds[0]} | p50 ms | p99 ms | server CPU µs | of {kinds[0]} |")
print("|---|---|---|---|---|---|---|---|")
for load in loads:
    first = None
    for kind in kinds:
        runs = [json.load(open(f"{work}/{kind}.{load}.{round}.json")) for round in range(1, rounds + 1)]
        median = lambda path: statistics.median(number(run, path) for run in runs)
        rate, p50, p99 = median("operations_per_second"), median("latency_us.p50"), median("latency_us.p99")
        cpu = median("servers.cpu_us_per_operation")
        first = first or (rate, cpu)
        ratio = lambda one, other: f"{one / other:.2f}" if other else ""
        print(f"| {load} | {kind} | {rate:,.0f} | {ratio(rate, first[0])} | {p50 / 1000:.2f} | {p99 / 1000:.2f} | {cpu:.1f} | {ratio(cpu, first[1])} |")
PYTHON
