#!/usr/bin/env bash
# Two nodes over one Redis, each with the demo page: what is written on one is seen on the other.
# Needs redis-server (or valkey-server) and cargo, or PLIMSOLL_BIN. Ctrl-C ends all of it.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"

redis="$(command -v redis-server || command -v valkey-server || true)"
if [ -z "$redis" ]; then
    echo "run.sh: redis-server is missing: apt-get install redis-server" >&2
    exit 1
fi
bin="${PLIMSOLL_BIN:-}"
if [ -z "$bin" ]; then
    (cd "$root" && cargo build --release --quiet)
    bin="$root/target/release/plimsoll"
fi

redis_port="${REDIS_PORT:-6390}"
port="${PORT:-8001}"
admin_port="${ADMIN_PORT:-9001}"
work="$(mktemp -d)"
started=()
stop() {
    for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap stop EXIT
trap 'exit 0' INT TERM

# Append-only: what was acknowledged outlives a restart of Redis, but for the last second.
"$redis" --port "$redis_port" --bind 127.0.0.1 --dir "$work" --save "" --appendonly yes \
    --appendfsync everysec >"$work/redis.log" 2>&1 &
started+=($!)

# The nodes take every PLIMSOLL_… for a setting.
unset PLIMSOLL_BIN
export PLIMSOLL_BACKBONE_KIND=redis
export PLIMSOLL_BACKBONE_REDIS_ADDRESSES="redis://127.0.0.1:$redis_port"
for n in 1 2; do
    PLIMSOLL_SERVER_NAME="node-$n" "$bin" \
        --listen "127.0.0.1:$((port + n - 1))" \
        --admin-listen "127.0.0.1:$((admin_port + n - 1))" >"$work/node-$n.log" 2>&1 &
    started+=($!)
done

for n in 1 2; do
    url="http://127.0.0.1:$((admin_port + n - 1))/ready"
    for _ in $(seq 100); do
        curl -fsS "$url" >/dev/null 2>&1 && continue 2
        sleep 0.1
    done
    echo "run.sh: node-$n did not become ready:" >&2
    tail -n 20 "$work/node-$n.log" >&2
    exit 1
done
echo "node-1: http://127.0.0.1:$port/   node-2: http://127.0.0.1:$((port + 1))/"
echo "Open both pages: they are one room. Ctrl-C ends the nodes and Redis."
wait -n
