#!/usr/bin/env bash
# Writes at a steady rate to three nodes on this machine, and looks every ten seconds at the disk and the memory of
# each. Prints vegeta's report and how far disk and memory grew after the first minutes, and draws them.
# Usage: benches/steady/run.sh [RATE] [MINUTES] [PLOT.svg]
#   RATE     writes a second, 5000 unless given
#   MINUTES  30 unless given
#   PLOT.svg where the picture goes; none unless given (needs gnuplot)
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
source "$(dirname "$0")/../lib.sh"
rate=${1:-5000}
minutes=${2:-30}
plot=${3:-}
keys=10000

need curl curl
[ -z "$plot" ] || need gnuplot gnuplot-nox
need_vegeta
build_konsen --bin konsen
start_cluster 3

printf 'v%.0s' $(seq 256) >"$work/value"
for number in $(seq 0 $((keys - 1))); do
  printf 'PUT %s/v1/kv/key%d\n@%s/value\n\n' "${endpoints[$((number % 3))]}" "$number" "$work" >>"$work/writes"
done

"$vegeta" attack -rate="$rate" -duration="${minutes}m" -timeout=10s -connections=64 -max-workers=256 \
  -targets="$work/writes" >"$work/results" &
attack=$!
children+=("$attack")
began=$SECONDS
# seconds, then for each node: MiB of its data directory, MiB of its resident memory
while kill -0 "$attack" 2>/dev/null; do
  line=$((SECONDS - began))
  for node in 1 2 3; do
    disk=$(du -sk "$work/cluster/node$node/data" | cut -f1)
    pid=$(pgrep -f "^$konsen serve" | while read -r pid; do
      [ "$(readlink "/proc/$pid/cwd")" = "$(realpath "$work/cluster/node$node")" ] && echo "$pid"
    done || true)
    memory=$(awk '/^VmRSS/ {print $2}' "/proc/$pid/status")
    line="$line $((disk / 1024)) $((memory / 1024))"
  done
  echo "$line" >>"$work/samples"
  sleep 10
done
wait "$attack"

"$vegeta" report -type=text "$work/results"
# The largest of each node, in the third to fifth minute and in the last two.
awk -v last="$((minutes * 60))" '
  function keep(which,  column) {
    for (column = 2; column <= 7; column++)
      if ($column > most[which, column]) most[which, column] = $column
  }
  $1 >= 120 && $1 < 300 { keep("early") }
  $1 >= last - 120 { keep("late") }
  END {
    for (node = 1; node <= 3; node++) {
      disk = node * 2; memory = disk + 1
      printf "node%d: disk at most %d MiB in minutes 3 to 5, %d MiB in the last two; memory %d MiB, %d MiB\n", \
        node, most["early", disk], most["late", disk], most["early", memory], most["late", memory]
    }
  }' "$work/samples"
if [ -n "$plot" ]; then
  gnuplot -e "
    set terminal svg size 900,420 background '#ffffff' font 'sans-serif,13';
    set output '$plot'; set key outside right; set grid; set yrange [0:*];
    set xlabel 'minutes'; set ylabel 'MiB';
    plot for [n=1:3] '$work/samples' using (\$1/60):(column(2*n)) with lines lw 2 title sprintf('node%d disk', n), \
         for [n=1:3] '' using (\$1/60):(column(2*n+1)) with lines lw 2 dt 2 title sprintf('node%d memory', n)"
  echo "drawn: $plot"
fi
