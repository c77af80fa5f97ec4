#!/usr/bin/env bash
# Runs a command in the folder of every module; fails if it failed in any.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

failed=0
for module in $(modules); do
	(cd "$module" && "$@") || { echo "failed in $module: $*"; failed=1; }
done
exit $failed
