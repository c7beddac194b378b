#!/bin/sh
# Installs what Debian has to give for one purpose, and only what is missing: scripts/setup-debian.sh run|demo|quick|...
# Says what it installs before it does; uses sudo when it is not root.
set -eu

run="python3-venv python3-bpfcc"
demo="$run nginx-light curl nghttp2-client iproute2 procps"
quick="$run gcc libc6-dev"
bench="$demo $quick wrk"
test="$bench nodejs qemu-system-x86 cpio busybox-static clang-format ca-certificates"

case "${1:-}" in
run) wanted=$run ;;
demo) wanted=$demo ;;
quick) wanted=$quick ;;
bench) wanted=$bench ;;
test) wanted=$test ;;
*)
	echo "usage: $0 run|demo|quick|bench|test" >&2
	exit 2
	;;
esac

missing=
for package in $wanted; do
	status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
	[ "$status" = installed ] || missing="$missing $package"
done
# The guest test takes the package of an older kernel from the same sources: their lists have to be there.
lists=yes
if [ "$1" = test ] && ! apt-cache search --names-only '^linux-image-6\.1\..*-cloud-' | grep -q .; then
	lists=
fi
[ -n "$missing" ] || [ -z "$lists" ] || exit 0

sudo=
if [ "$(id -u)" -ne 0 ]; then
	if ! command -v sudo >/dev/null; then
		echo "setup: missing${missing:- package lists}; become root and run this again" >&2
		exit 1
	fi
	sudo=sudo
fi
echo "setup: reading the package lists" >&2
$sudo apt-get update --quiet=2
[ -n "$missing" ] || exit 0
echo "setup: installing$missing" >&2
# shellcheck disable=SC2086 # the list is meant to be split
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends $missing >/dev/null
# Debian starts nginx when it is installed; here it is only a program for tests, so it is stopped again if it was new.
case "$missing" in
*nginx*) $sudo service nginx stop >/dev/null 2>&1 || true ;;
esac
