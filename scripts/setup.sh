#!/usr/bin/env bash
# Finds, or where it may without asking brings, what the tests need beside Go: redis-server, chromium for the test that
# looks at the ward board's page, and nginx for the one that puts it in front of three of them. What is missing in the end is
# said in one loud line each, and makes this script fail if BACKPLANE_REQUIRE (a list: redis,browser,nginx) names it.
#
# It installs packages only where it runs as root and apt-get exists, as in CI and in containers; BACKPLANE_INSTALL=no
# forbids that too. The tests start servers of their own, on ports of their own: a service that a package may start is
# neither used nor touched.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

apt_updated=
apt_install() {
	[ "${BACKPLANE_INSTALL:-yes}" != no ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
	echo "setup: installing $1 with apt-get"
	local apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300) log=.tmp/apt.log
	if [ -z "$apt_updated" ]; then
		"${apt[@]}" update >$log 2>&1 </dev/null || { tail -n 5 $log; return 1; }
		apt_updated=yes
	fi
	"${apt[@]}" install -y --no-install-recommends "$1" >>$log 2>&1 </dev/null || { tail -n 5 $log; return 1; }
}

# redis_from_docker takes redis-server and the libraries it needs out of an image. It then runs as a process like any
# other, which the tests can kill, freeze and start again.
redis_from_docker() {
	[ "$(uname -s)" = Linux ] && docker info >/dev/null 2>&1 || return 1
	echo "setup: taking redis-server out of the Docker image $REDIS_IMAGE"
	local dir=$root/.tmp/redis loader libraries
	rm -rf "$dir" && mkdir -p "$dir"
	docker run --rm --entrypoint sh "$REDIS_IMAGE" -c '
		server=$(command -v redis-server) && tar -ch "$server" $(ldd "$server" | grep -o "/[^ ]*") 2>/dev/null
	' </dev/null | tar -x -C "$dir" || return 1
	loader=$(find "$dir" -name 'ld-*.so*' | head -n 1)
	libraries=$(find "$dir" -name '*.so*' -printf '%h\n' | sort -u | paste -sd :)
	cat >"$tools/redis-server" <<-SHIM
		#!/bin/sh
		exec "$loader" --library-path "$libraries" "$(find "$dir" -type f -name redis-server)" "\$@"
	SHIM
	chmod +x "$tools/redis-server"
	"$tools/redis-server" --version >/dev/null 2>&1 || { rm "$tools/redis-server"; return 1; }
}

find_redis() { command -v redis-server; }

find_browser() {
	local name
	for name in chromium chromium-browser google-chrome google-chrome-stable \
		'/Applications/Google Chrome.app/Contents/MacOS/Google Chrome'; do
		command -v "$name" && return
	done
	return 1
}

# Debian keeps it where only root's PATH leads.
find_nginx() { command -v nginx || command -v /usr/sbin/nginx; }

failed=0
# settle says how the search for a thing ended. Arguments: its name, where it is or nothing, what is skipped without it.
settle() {
	if [ -n "$2" ]; then
		echo "setup: $1 is $2"
	elif required "$1"; then
		loud "FAILED: BACKPLANE_REQUIRE names $1, but it cannot be had here: $3"
		failed=1
	else
		loud "SKIPPED: $3"
	fi
}

for thing in ${BACKPLANE_REQUIRE//,/ }; do
	case $thing in
	redis | browser | nginx) ;;
	*) echo "setup: BACKPLANE_REQUIRE names $thing; it knows redis, browser and nginx" >&2 && exit 2 ;;
	esac
done

find_redis >/dev/null || apt_install redis-server || redis_from_docker || true
find_browser >/dev/null || apt_install chromium || true
find_nginx >/dev/null || apt_install nginx || true
settle redis "$(find_redis)" "no test with a real Redis: no redis-server on PATH, no right to install it, no Docker"
settle browser "$(find_browser)" "no test of the ward board in a browser: no chromium or Chrome, no right to install it"
settle nginx "$(find_nginx)" "no test of the ward board behind nginx: no nginx on PATH, no right to install it"
exit $failed
