# Shared by the scripts; sourced, with the repository's root as the working directory.
set -eu
cd "$(dirname "$0")/.."

# go_will_do GO: is it there, and of a release that fetches the one which go.mod names by itself (1.21 or later)?
go_will_do() {
	v=$(GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null) || return 1
	case $v in
	devel*) return 0 ;;
	go1.*) ;;
	*) return 1 ;;
	esac
	v=${v#go1.}
	v=${v%%[!0-9]*}
	[ -n "$v" ] && [ "$v" -ge 21 ]
}

# Where scripts/deps puts Go when the distribution has none or one that is too old, which stands before it in the path.
use_go() {
	go_will_do go && return
	for dir in /usr/local/go/bin "${HOME:-}/.local/go/bin"; do
		if go_will_do "$dir/go"; then
			PATH=$dir:$PATH
			export PATH
			return
		fi
	done
	return 1
}
use_go || PATH=/usr/local/go/bin:${HOME:-}/.local/go/bin:$PATH # where scripts/deps will have put it
export PATH

# A checkout that belongs to another user, as in many a CI, must not keep the build from working.
git rev-parse --git-dir >/dev/null 2>&1 || export GOFLAGS="${GOFLAGS:--buildvcs=false}"

say() { printf '%s\n' "$*"; }
fail() { printf '%s\n' "$*" >&2; exit 1; }

# as_root COMMAND…: runs it as root, by sudo where that is needed; sudo keeps no variables, so those go through env(1).
as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null 2>&1; then
		sudo "$@"
	else
		return 1
	fi
}
