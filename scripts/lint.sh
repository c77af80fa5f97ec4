#!/usr/bin/env bash
# Runs golangci-lint, in the pinned version, over every module. It is built from source on first use (one to two minutes).
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

lint=$tools/golangci-lint-$GOLANGCI_LINT_VERSION
if [ ! -x "$lint" ]; then
	section "building golangci-lint $GOLANGCI_LINT_VERSION"
	GOBIN=$tools GOWORK=off go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$GOLANGCI_LINT_VERSION"
	mv "$tools/golangci-lint" "$lint"
fi
"$lint" config verify
failed=0
for module in $(modules); do
	section "lint $module"
	(cd "$module" && "$lint" run --allow-serial-runners --timeout 15m "$@" ./...) || failed=1
done
exit $failed
