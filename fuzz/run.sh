#!/usr/bin/env bash
# Runs every fuzz target: run.sh [SECONDS_PER_TARGET] [TARGET...]        (default: 30, all)
#
# A finding fails the run; its input is left in fuzz/artifacts. The corpus stays in fuzz/corpus.
set -euo pipefail

fail() { echo "fuzz: $*" >&2; exit 1; }

cd "$(dirname "${BASH_SOURCE[0]}")"
seconds=${1:-30}
[[ $seconds =~ ^[0-9]+$ ]] || fail "the first argument is a number of seconds."
shift || true
command -v cargo >/dev/null || fail "cargo is missing; install Rust first."
command -v c++ >/dev/null || fail "c++ is missing, which the fuzzer is built with; install g++."

if ! cargo fuzz --version >/dev/null 2>&1; then
  echo "fuzz: installing cargo-fuzz"
  cargo install --quiet cargo-fuzz --locked --version 0.13.2 \
    || fail "cargo-fuzz could not be installed; is the package registry reachable?"
fi

# The pinned toolchain has all a fuzzer's build needs, but for the permission to use it.
export RUSTC_BOOTSTRAP=1

targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cargo fuzz list)
[ ${#targets[@]} -gt 0 ] || fail "there is no target."

mkdir -p artifacts
passed=0
failed=0
for target in "${targets[@]}"; do
  cargo fuzz build --fuzz-dir . "$target" >artifacts/build.log 2>&1 \
    || { tail -n 40 artifacts/build.log >&2; fail "the target '$target' does not build."; }
  mkdir -p "corpus/$target" "artifacts/$target"
  seeds=()
  [ ! -d "seeds/$target" ] || seeds=("seeds/$target")
  log=artifacts/$target.log
  if cargo fuzz run --fuzz-dir . "$target" "corpus/$target" "${seeds[@]}" -- \
    -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=1024 \
    -print_final_stats=1 >"$log" 2>&1; then
    passed=$((passed + 1))
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    echo "fuzz $target: $runs runs, no finding"
  else
    failed=$((failed + 1))
    tail -n 40 "$log" >&2
    echo "fuzz $target: a finding; see fuzz/artifacts/$target"
  fi
done
rm -f artifacts/build.log
echo "fuzz: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
