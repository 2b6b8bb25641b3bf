# shellcheck shell=bash disable=SC2154
# For `run` beside it: konsen and the original konsen under the two loads of the original's README, five nodes each, by the
# routes that both have. Uses what `run` has set.

# build_original FOLDER: leaves the binary in `work`, and writes nothing into the folder.
build_original() {
  cd "$1" 2>/dev/null || { echo "there is no folder $1"; return 1; }
  [ -s go.mod ] || { echo "$1 has no go.mod"; return 1; }
  local main=.
  [ ! -d cmd ] || main=./cmd
  go build -o "$work/original.bin" "$main"
}

# Each node has a folder, as the original's own build script makes them.
start_original() {
  local at folder
  ports_of original
  for at in $(seq 0 $((nodes - 1))); do
    addresses+=("http://127.0.0.1:${ports[at * 2 + 1]}")
  done
  for at in $(seq 0 $((nodes - 1))); do
    folder=$work/original/node$((at + 1))
    mkdir -p "$folder"
    {
      local peer
      echo 'servers:'
      for peer in $(seq 0 $((nodes - 1))); do echo "  node$((peer + 1)): 127.0.0.1:${ports[peer * 2]}"; done
      echo 'httpServers:'
      for peer in $(seq 0 $((nodes - 1))); do echo "  node$((peer + 1)): 127.0.0.1:${ports[peer * 2 + 1]}"; done
      echo "localServerName: node$((at + 1))"
    } >"$folder/cluster.yml"
    launch "original$at" "$work/original.bin" --cluster_config_path "$folder/cluster.yml" --db_dir "$folder/db"
  done
}

# answers URL: whether a write and a read there succeed; some versions of the original tell readiness in no other way.
answers() {
  curl --silent --fail --max-time 5 --data 'ready=1' --output /dev/null "$1/konsen" &&
    curl --silent --fail --max-time 5 --output /dev/null "$1/konsen?key=ready"
}

wait_answers() {
  local system=$1 attempt address
  for address in "${addresses[@]}"; do
    for attempt in $(seq 300); do
      if answers "$address"; then break; fi
      if [ "$attempt" -eq 300 ] || ! kill -0 "${servers[@]}" 2>/dev/null; then
        tail -n 5 "$work/$system"*.log >&2 || true
        return 1
      fi
      sleep 0.1
    done
  done
}

# attack SYSTEM ROUND LOAD RATE: one of the two loads, as a line of JSON.
attack() {
  "$vegeta" attack -rate="$4" -duration=5s -timeout=10s -targets="$work/$3" >"$work/results"
  "$vegeta" report -type=json "$work/results" |
    jq --compact-output --arg system "$1" --argjson round "$2" --arg load "$3" --argjson rate "$4" \
      '{system: $system, round: $round, load: $load, rate: $rate, success, throughput, latencies}' >>"$work/original.jsonl"
}

# compare_with_original: the table, or a word on standard error why there is none.
compare_with_original() {
  local nodes=5 round system
  need_vegeta >&2
  : >"$work/original.jsonl"
  # The data of the comparison before is of another number of nodes.
  rm -rf "$work/konsen"
  for round in $(seq "$rounds"); do
    for system in konsen original; do
      echo "round $round of $rounds: $system, the original's loads" >&2
      "start_$system"
      if ! wait_answers "$system"; then
        echo "original is left out, since $system does not answer under its routes" >&2
        stop_servers
        return
      fi
      targets original "${addresses[@]}"
      attack "$system" "$round" writes 500
      attack "$system" "$round" reads 2000
      stop_servers
    done
  done
  cat <<TEXT

### The original konsen's two loads, over five nodes

By its own routes (\`POST /konsen\`, \`GET /konsen?key=\`) with vegeta, 256 B, 1000 keys, 5 s each, medians of $rounds rounds.

| load | system | success | came through a second | mean ms | p50 ms | p99 ms |
|---|---|---|---|---|---|---|
TEXT
  jq --slurp --raw-output --from-file "$here/original.jq" "$work/original.jsonl"
}
