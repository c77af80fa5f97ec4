#!/usr/bin/env bash
# Runs the suite over each of our transports, and writes what came out into docs/reports. Only a run in which nothing
# failed is written.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

bash scripts/setup.sh
export BACKPLANE_REQUIRE=redis CONFORMANCE_SEED=1

kept=$(mktemp -d)
trap 'rm -rf "$kept"' EXIT

# report runs a test of a module and keeps its report under a name.
report() {
	local module=$1 package=$2 test=$3 name=$4 kind file
	section "$name: $test"
	mkdir "$kept/$name"
	(cd "$module" && go test -count=1 -artifacts -outputdir "$kept/$name" -run "^$test\$" "$package")
	for kind in json md; do
		file=$(find "$kept/$name" -name "report.$kind")
		install -m 644 "$file" "docs/reports/$name.$kind"
	done
}

mkdir -p docs/reports
report . ./conformance TestInMemory inmem
report integration . TestConformanceMiniredis miniredis
report integration . TestConformanceRedis redis
report integration . TestConformanceNATS nats
report integration . TestConformanceNATSCluster nats-cluster
