#!/usr/bin/env bash
# What grep can hold: rules that no linter knows. A line is let through by an entry in the list of its rule, with a reason.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

failed=0
# forbid prints the lines of tracked and new files that match a pattern, less comments, and fails if there are any.
# Arguments: the rule, the pattern, an extended expression of allowed lines (path:line:text), the files.
forbid() {
	local rule=$1 pattern=$2 allowed=$3 found
	shift 3
	found=$(git grep --untracked -nE -e "$pattern" -- "$@" | grep -vE '^[^:]+:[0-9]+:\s*//' | grep -vE "${allowed:-^$}") || true
	[ -z "$found" ] && return
	printf 'guard: %s\n%s\n\n' "$rule" "$found"
	failed=1
}

forbid 'tests wait for events, or run in a testing/synctest bubble; they do not sleep' \
	'\btime\.Sleep\(' '' '*_test.go' 'conformance/*.go'

forbid 'a test that cannot run says so through the one helper that honours BACKPLANE_REQUIRE' \
	'\.(Skip|Skipf|SkipNow)\(' '^integration/require\.go:' '*.go'

exit $failed
