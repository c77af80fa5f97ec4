#!/usr/bin/env bash
# Runs the tests of every module of go.work. Arguments are passed on to go test.
set -euo pipefail
cd "$(dirname "$0")/.."

failed=0
for module in $(go list -m -f '{{.Dir}}'); do
	printf '\n== tests: %s\n' "${module#"$PWD"}"
	packages=$(cd "$module" && go list ./...)
	[ -n "$packages" ] || { echo "no packages yet"; continue; }
	(cd "$module" && go test "$@" ./...) || failed=1
done
exit $failed
