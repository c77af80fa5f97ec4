# Shared by the scripts, which source it first. It changes to the root of the repository.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
source scripts/versions.sh

# Tools that the scripts bring live in the clone, not in the user's folders.
tools=$root/.tmp/bin
mkdir -p "$tools"
PATH=$tools:$PATH

# modules prints the folder of each module of go.work that has packages, relative to the root.
modules() {
	local dir
	for dir in $(go list -m -f '{{.Dir}}'); do
		[ -z "$(cd "$dir" && go list ./... 2>/dev/null)" ] || echo ".${dir#"$root"}"
	done
}

# A list of what must not be skipped: redis,browser,nginx. The tests read it too.
export BACKPLANE_REQUIRE=${BACKPLANE_REQUIRE:-}
required() { [[ ",$BACKPLANE_REQUIRE," == *",$1,"* ]]; }

section() { printf '\n==== %s (%(%H:%M:%S)T)\n' "$*"; }

# loud prints one line that cannot be missed.
loud() { printf '\n!!!!!!!! %s !!!!!!!!\n\n' "$*"; }
