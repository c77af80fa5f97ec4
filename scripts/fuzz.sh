#!/usr/bin/env bash
# Runs every fuzz target of every module for FUZZTIME each (default 10s).
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

for module in $(modules); do
	for package in $(cd "$module" && go list ./...); do
		for target in $(cd "$module" && go test -list '^Fuzz' "$package" | grep '^Fuzz'); do
			section "$target in $package"
			(cd "$module" && go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-10s}" "$package")
		done
	done
done
