#!/usr/bin/env bash
# The original konsen's two loads against five nodes on this machine: 500 writes/s for 5 s, then 10,000
# reads/s for 5 s. Prints vegeta's reports, and what vegeta makes of the same reads from one process that
# answers with a constant: the floor of the machine. Installs vegeta with go into a temporary directory if
# missing.
# Usage: benches/vegeta/run.sh [v1|original]
#   v1        PUT and GET /v1/kv/KEY (unless given)
#   original  POST /konsen with a form, and GET /konsen?key=KEY, as the original's own load does
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
source "$(dirname "$0")/../lib.sh"
api=${1:-v1}
case $api in v1 | original) ;; *) fail "usage: benches/vegeta/run.sh [v1|original]" ;; esac

need curl curl
need_vegeta
build_konsen --bin konsen --example floors
start_floors
start_cluster 5

targets "$api" "${endpoints[@]}"

load() {
  printf '\n== %s\n' "$1"
  "$vegeta" attack -rate="$2" -duration=5s -timeout=10s -targets="$3" >"$work/results"
  "$vegeta" report -type=text "$work/results"
  "$vegeta" report -type='hist[0,500us,1ms,2ms,5ms,10ms,25ms,50ms,100ms]' "$work/results"
}

load "500 writes/s for 5 s ($api; the original: mean 82 ms, p99 126 ms)" 500 "$work/writes"
load "10,000 reads/s for 5 s ($api; the original: mean 484 µs, p99 9.18 ms)" 10000 "$work/reads"
printf 'GET http://%s/v1/kv/key\n' "$constant" >"$work/floor"
load "10,000 reads/s for 5 s of a constant, one axum process beside the idle cluster" 10000 "$work/floor"
