# shellcheck shell=bash disable=SC2034
# For the scripts beside it: builds konsen, runs a cluster on loopback, and cleans up whatever happens.
# Sets: root, work (a temporary directory); start_cluster sets endpoints (an array) and leader.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/konsen-bench.XXXXXX")
children=()

clean_up() {
  local status=$?
  trap - EXIT INT TERM
  local pid attempt
  for pid in "${children[@]}"; do
    kill -TERM "$pid" 2>/dev/null || true
  done
  for pid in "${children[@]}"; do
    for attempt in $(seq 200); do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.1
    done
    # The nodes of a supervisor that is killed stop by themselves.
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  rm -rf "$work"
  exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

fail() {
  echo "error: $*" >&2
  exit 1
}

# A command, and the Debian package that has it.
need() {
  command -v "$1" >/dev/null || fail "$1 is missing; install it with: apt-get install $2"
}

# between FILE NAME TEXT: puts what is in TEXT between the two markers of that name in FILE.
between() {
  local begin="<!-- $2: begin -->" end="<!-- $2: end -->"
  if ! grep -qxF "$begin" "$1" || ! grep -qxF "$end" "$1"; then fail "$1 lacks the lines $begin and $end"; fi
  awk -v begin="$begin" -v end="$end" -v text="$3" '
    $0 == end { inside = 0 }
    !inside { print }
    $0 == begin { inside = 1; while ((getline line < text) > 0) print line }' "$1" >"$work/between"
  cp "$work/between" "$1"
}

# vegeta, installed with go into the temporary directory if it is missing. Sets: vegeta.
need_vegeta() {
  vegeta=$(command -v vegeta || true)
  [ -z "$vegeta" ] || return 0
  need go golang-go
  # The cache of modules is read-only, and so would not be removed with the directory.
  GOBIN=$work/bin GOFLAGS=-modcacherw go install github.com/tsenart/vegeta/v12@latest
  vegeta=$work/bin/vegeta
}

# targets API URL...: what vegeta is to ask, round the nodes and a thousand keys of 256 bytes: the files writes and reads in
# `work`. API: v1, or original for the routes that the original konsen has.
targets() {
  local api=$1 number value endpoint
  shift
  value=$(printf 'v%.0s' $(seq 256))
  printf '%s' "$value" >"$work/value"
  : >"$work/writes"
  : >"$work/reads"
  for number in $(seq 0 999); do
    endpoint=${*:$((number % $# + 1)):1}
    if [ "$api" = v1 ]; then
      printf 'PUT %s/v1/kv/key%d\n@%s/value\n\n' "$endpoint" "$number" "$work" >>"$work/writes"
      printf 'GET %s/v1/kv/key%d\n\n' "$endpoint" "$number" >>"$work/reads"
    else
      printf 'key%d=%s' "$number" "$value" >"$work/form$number"
      printf 'POST %s/konsen\nContent-Type: application/x-www-form-urlencoded\n@%s/form%d\n\n' \
        "$endpoint" "$work" "$number" >>"$work/writes"
      printf 'GET %s/konsen?key=key%d\n\n' "$endpoint" "$number" >>"$work/reads"
    fi
  done
}

build_konsen() {
  (cd "$root" && cargo build --release --locked "$@")
  konsen=${CARGO_TARGET_DIR:-$root/target}/release/konsen
}

# start_cluster COUNT: a new cluster of so many nodes; returns once all of them are ready.
start_cluster() {
  local count=$1 attempt endpoint
  "$konsen" dev --nodes "$count" --dir "$work/cluster" --fresh >"$work/dev.out" 2>"$work/dev.err" &
  local supervisor=$!
  children+=("$supervisor")
  for attempt in $(seq 300); do
    kill -0 "$supervisor" 2>/dev/null || { tail -n 20 "$work/dev.err" >&2; fail "the cluster did not start"; }
    if grep -q '^Try:' "$work/dev.out"; then break; fi
    [ "$attempt" -lt 300 ] || { tail -n 20 "$work/dev.err" >&2; fail "no leader after 30 s"; }
    sleep 0.1
  done
  mapfile -t endpoints < <(sed -n 's|^  node[0-9]*  \(http://[^ ]*\).*|\1|p' "$work/dev.out")
  leader=$(sed -n 's|^  node[0-9]*  \(http://[^ ]*\) .*  leader$|\1|p' "$work/dev.out")
  if [ ${#endpoints[@]} -ne "$count" ] || [ -z "$leader" ]; then
    fail "cannot read the addresses of the cluster"
  fi
  for endpoint in "${endpoints[@]}"; do
    curl --silent --fail --retry 50 --retry-all-errors --retry-delay 1 --max-time 60 \
      "$endpoint/readyz" >/dev/null || fail "$endpoint is not ready"
  done
}

# start_floors: the servers that answer without konsen. Sets: floors, constant and looked_up (addresses).
start_floors() {
  floors=${CARGO_TARGET_DIR:-$root/target}/release/examples/floors
  # floors runs until its stdin ends, which is when the script does.
  mkfifo "$work/stdin"
  "$floors" serve "$work" <"$work/stdin" >"$work/floors.out" &
  local server=$!
  children+=("$server")
  exec 9>"$work/stdin"
  until [ -s "$work/floors.out" ]; do kill -0 "$server" || fail "floors did not start"; sleep 0.05; done
  read -r constant looked_up <"$work/floors.out"
}
