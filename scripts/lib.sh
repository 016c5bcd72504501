# Shared by the scripts; sourced, with the repository's root as the working directory.
set -eu
cd "$(dirname "$0")/.."

# Where scripts/deps puts Go when the distribution's is too old.
PATH=$PATH:/usr/local/go/bin:$HOME/.local/go/bin
export PATH
# A checkout that belongs to another user, as in many a CI, must not keep the build from working.
export GOFLAGS="${GOFLAGS:--buildvcs=auto}"

say() { printf '%s\n' "$*"; }
fail() { printf '%s\n' "$*" >&2; exit 1; }

# as_root COMMAND…: runs it as root, by sudo where that is needed.
as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null 2>&1; then
		sudo "$@"
	else
		return 1
	fi
}
