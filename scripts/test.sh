#!/usr/bin/env bash
# Runs the tests of every module of go.work. Arguments are passed on to go test.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

setup=$(mktemp)
trap 'rm -f "$setup"' EXIT
bash scripts/setup.sh | tee "$setup"

failed=()
for module in $(modules); do
	section "go test $* in $module"
	(cd "$module" && go test "$@" ./...) || failed+=("$module")
done

# Said again at the end, where it is seen.
grep '^!!!!' "$setup" || true
[ ${#failed[@]} = 0 ] || { loud "FAILED: the tests of ${failed[*]}"; exit 1; }
