#!/usr/bin/env bash
# Runs the tests of every module of go.work in one go test, so that packages whose tests wait run beside those that compute. The
# slowest begin first. Arguments are passed on to go test.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

setup=$(mktemp)
trap 'rm -f "$setup"' EXIT
bash scripts/setup.sh | tee "$setup"

slowest=(./integration ./conformance ./nats/embedded) # one that waits, one that computes
packages=()
all=$(modules)
for module in $all; do
	packages+=("$module/...")
done

section "go test $* ${packages[*]}"
status=0
go test "$@" "${slowest[@]}" "${packages[@]}" || status=$?

# Said again at the end, where it is seen.
grep '^!!!!' "$setup" || true
[ $status = 0 ] || { loud "FAILED: the tests"; exit 1; }
