#!/usr/bin/env bash
# Runs a command in the folder of every module that has packages; fails if it failed in any.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

failed=0
for module in $(modules); do
	[ -n "$(cd "$module" && go list ./... 2>/dev/null)" ] || continue
	(cd "$module" && "$@") || { echo "failed in $module: $*"; failed=1; }
done
exit $failed
