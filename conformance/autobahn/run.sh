#!/usr/bin/env bash
# Runs the Autobahn cases against the echo server on the production codec.
#
#   run.sh [CACHE_DIR]        (default: target/autobahn)
#   AUTOBAHN_COMPRESSION=1    also 180 cases of 12 and 13 (minutes; without it a sample of 12)
#
# Four parts, each with its gate: 1-7 and 10 strictly, 9 with the caps raised, a sample of the
# compression cases, and 1-7, 9 and 10 against the client's half of the codec. The last line of
# a good run is `autobahn: 247 cases, 0 bad`.
set -euo pipefail

fail() { echo "autobahn: $*" >&2; exit 1; }

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
cache=${1:-$target/autobahn}
gate=$root/conformance/autobahn/gate.py

command -v cargo >/dev/null || fail "cargo is missing; install Rust first."
command -v python3 >/dev/null || fail "python3 is missing; install CPython 3.10 or newer."
python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
  || fail "python3 is older than 3.10, which the runner needs."

mkdir -p "$cache"
kosoku=$cache/venv/bin/kosoku
if [ ! -x "$kosoku" ]; then
  rm -rf "$cache/venv"
  python3 -m venv "$cache/venv" \
    || fail "python3 cannot make a virtual environment; install its venv module."
  "$cache/venv/bin/python" -m pip --version >/dev/null 2>&1 \
    || fail "pip is missing from python3; install it."
  "$cache/venv/bin/python" -m pip install --quiet --disable-pip-version-check kosoku==0.1.0 \
    || fail "kosoku 0.1.0 could not be installed; is the package index reachable?"
fi

cargo build --quiet --release --manifest-path "$root/Cargo.toml" \
  -p plimsoll-transport --examples || fail "the echo server and client do not build."

echo_pid=
cleanup() { [ -z "$echo_pid" ] || kill "$echo_pid" 2>/dev/null || true; }
trap cleanup EXIT

# Starts the echo server with the given flags; its port is in $port.
start() {
  : >"$cache/port"
  "$target/release/examples/ws_echo" "$@" >"$cache/port" &
  echo_pid=$!
  for _ in $(seq 100); do
    port=$(head -n 1 "$cache/port")
    [ -z "$port" ] || return 0
    sleep 0.05
  done
  fail "the echo server did not start."
}

stop() {
  kill -0 "$echo_pid" 2>/dev/null || fail "the echo server died during the run."
  kill "$echo_pid"
  wait "$echo_pid" 2>/dev/null || true
  echo_pid=
}

# run NAME CASES_MIN RUNNER_FLAGS...
run() {
  local name=$1 least=$2
  shift 2
  # The runner's own verdict counts NON-STRICT as passed, so the gate reads its report instead.
  # Now and then it aborts; if that was before the report, it has said nothing, and runs again.
  for _ in 1 2; do
    rm -rf "$cache/reports/$name"
    { timeout 1800 "$kosoku" -m fuzzingclient "$@" -p 4 -o "$cache/reports/$name" \
      "127.0.0.1:$port" >"$cache/$name.log" 2>&1 || true; } 2>/dev/null
    [ ! -f "$cache/reports/$name/index.json" ] || break
  done
  judge "$name" "$least"
}

# judge NAME CASES_MIN
judge() {
  local name=$1 least=$2
  [ -f "$cache/reports/$name/index.json" ] \
    || { tail -n 20 "$cache/$name.log" >&2; fail "the part '$name' left no report."; }
  python3 "$gate" "$cache/reports/$name/index.json" "$name" "$least" \
    || fail "the part '$name' is not clean; see $cache/reports/$name."
}

raised=(--message-bytes-max $((16 * 1024 * 1024 + 1)) --fragments-max 65537)

start --deflate "${raised[@]}"
run limits 54 -i '9.*'
stop

# The runner fails on a plain message where compression was agreed upon, so all are compressed.
start --deflate-always "${raised[@]}"
if [ "${AUTOBAHN_COMPRESSION:-0}" = 1 ]; then
  # 13.3 and 13.5 ask for a window of 9 bits only, which is declined by choice.
  run compression 180 -i '12.*' -i '13.*' -x '13.3.*' -x '13.5.*'
else
  sample=(12.1.1 12.1.2 12.1.3 12.1.4 12.1.5 12.1.11 12.2.1 12.2.2 12.2.3 12.2.11 13.1.1 13.2.1)
  run compression "${#sample[@]}" "${sample[@]/#/--include=}"
fi
stop

# The other way round: the runner is the server, and our client takes what it sends.
run_client() {
  local free='import socket; print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])'
  port=$(python3 -c "$free")
  rm -rf "$cache/reports/client" "$cache/client.log"
  timeout 600 "$kosoku" -m fuzzingserver -x '12.*' -x '13.*' -o "$cache/reports/client" \
    "127.0.0.1:$port" >"$cache/client.log" 2>&1 &
  echo_pid=$!
  for _ in $(seq 100); do
    ! grep -qs listening "$cache/client.log" || break
    sleep 0.1
  done
  timeout 600 "$target/release/examples/ws_client" "127.0.0.1:$port" >"$cache/ws_client.log" 2>&1 \
    || true
  for _ in $(seq 50); do
    [ ! -f "$cache/reports/client/index.json" ] || break
    sleep 0.1
  done
  { cleanup; wait "$echo_pid" || true; } 2>/dev/null
  echo_pid=
}

run_client
[ -f "$cache/reports/client/index.json" ] || run_client
judge client 301

# The caps and the settings of production.
start
run strict 247 -x '9.*' -x '12.*' -x '13.*'
stop
