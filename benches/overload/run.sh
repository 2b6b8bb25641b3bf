#!/usr/bin/env bash
# More than a cluster can do: what it answers, how fast, and what becomes of it after. Prints a table in Markdown.
#
# First the best rate of a closed loop (64, 256 and 1024 connections), then three times that in an open loop over many
# connections, on which requests that find none free are not sent; then at once a quarter of the best rate, whose slowest
# answers show whether anything is left of the load.
#
# Usage: benches/overload/run.sh, and by the environment:
#   LOADS         of put, get and mixed (default: "put get mixed")
#   NODES         3, or 5
#   CONNECTIONS   of the open loop, spread over all nodes (default: 3000)
#   SECONDS_EACH  of the open loop (default: 20)
#   KEYS          100000
#   KONSEN        a built binary; built from this tree if not given
#
# Load and servers share the machine, so each takes CPU from the other; all traffic stays on loopback.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
source "$(dirname "$0")/../lib.sh"

loads=${LOADS:-put get mixed}
seconds=${SECONDS_EACH:-20}
connections=${CONNECTIONS:-3000}
keys=${KEYS:-100000}
need curl curl
need python3 python3
if [ -n "${KONSEN:-}" ]; then
  konsen=$KONSEN
else
  build_konsen --bin konsen
fi
# As far as the system lets it: each connection is a descriptor of the client, and one of a node.
ulimit -S -n "$(ulimit -H -n)"

start_cluster "${NODES:-3}"
all=$(IFS=,; echo "${endpoints[*]}")

# bench NAME ARGUMENTS...: what `konsen bench` says goes to NAME.json.
bench() {
  local name=$1
  shift
  "$konsen" bench "$@" --no-fill --keys "$keys" --endpoints "$all" --output json \
    >"$work/$name.json" 2>"$work/$name.err" ||
    { cat "$work/$name.err" >&2; fail "konsen bench failed"; }
}

# figure NAME FIELD: a number of it, rounded.
figure() {
  python3 - "$work/$1.json" "$2" <<'PYTHON'
import json, sys
value = json.load(open(sys.argv[1]))
for name in sys.argv[2].split("."):
    value = (value or {}).get(name)
print(0 if value is None else round(value))
PYTHON
}

"$konsen" bench get --keys "$keys" --duration 1s --warmup 1s --endpoints "$all" >/dev/null 2>&1

echo "| load | best closed loop /s, p99 ms | answered of three times that /s | of the best | p99 ms | refused /s | not sent /s | server CPU us an answer: before, then | p99 ms at a quarter, at once after |"
echo "|---|---|---|---|---|---|---|---|---|"
for load in $loads; do
  best=0
  for clients in 64 256 1024; do
    bench closed "$load" --connections "$clients" --duration 5s --warmup 1s
    if [ "$(figure closed operations_per_second)" -gt "$best" ]; then
      best=$(figure closed operations_per_second)
      best_p99=$(figure closed latency_us.p99)
      before_cpu=$(figure closed servers.cpu_us_per_operation)
    fi
  done
  bench open "$load" --connections "$connections" --duration "${seconds}s" --warmup 0s \
    --rate $((best * 3)) --waiting 1
  bench after "$load" --connections 64 --duration 3s --warmup 0s --rate $((best / 4))
  answered=$(($(figure open succeeded) / seconds))
  cpu=$(python3 -c "
operations, cpu, succeeded = $(figure open operations), $(figure open servers.cpu_us_per_operation), $(figure open succeeded)
print(round(operations * cpu / max(succeeded, 1)))")
  printf '| %s | %s, %s | %s | %s %% | %s | %s | %s | %s, %s | %s |\n' "$load" \
    "$best" "$((best_p99 / 1000))" "$answered" "$((100 * answered / best))" \
    "$(($(figure open latency_us.p99) / 1000))" "$(($(figure open refused) / seconds))" \
    "$(($(figure open unsent) / seconds))" "$before_cpu" "$cpu" \
    "$(($(figure after latency_us.p99) / 1000))"
done
