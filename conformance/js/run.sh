#!/bin/sh
# The unmodified npm client, bare sockets, the demo's client and a real browser against the
# real binary.
# PLIMSOLL_BIN names another binary than target/release/plimsoll.
set -eu
cd "$(dirname "$0")"
for tool in node npm; do
    command -v "$tool" >/dev/null || {
        echo "run.sh: $tool is missing: install Node.js 20.11 or newer with npm" >&2
        exit 1
    }
done
npm ci --ignore-scripts --loglevel=error
if grep -q '"resolved"' package-lock.json; then
    echo "run.sh: package-lock.json names a registry:" \
        "run npm install with the .npmrc of this folder" >&2
    exit 1
fi
exec node --test --test-concurrency=3 --test-reporter=spec ./*.test.mjs
