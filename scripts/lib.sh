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
	local dir dirs packages
	dirs=$(go list -m -f '{{.Dir}}') || return
	for dir in $dirs; do
		packages=$(cd "$dir" && go list ./...) || return
		[ -z "$packages" ] || echo ".${dir#"$root"}"
	done
}

# A list of what must not be skipped: redis,browser,nginx. The tests read it too.
export BACKPLANE_REQUIRE=${BACKPLANE_REQUIRE:-}
required() { [[ ",$BACKPLANE_REQUIRE," == *",$1,"* ]]; }

section() { printf '\n==== %s (%(%H:%M:%S)T)\n' "$*"; }

# loud prints one line that cannot be missed.
loud() { printf '\n!!!!!!!! %s !!!!!!!!\n\n' "$*"; }
