# Shared by scripts/test and scripts/soak; sourced after lib.sh: steps that all run even if one fails, and a report of the tests in them.
set -o pipefail
started=$SECONDS
failed=
out=$(mktemp -d)
disk=
trap leave EXIT
leave() {
	if [ -n "$disk" ]; then
		umount -l "$disk"
		rmdir "$disk"
	fi
	rm -r "$out"
}

# own_disk has temporary files lie on an ext4 of its own from here on, in a sparse file. That of a machine may have no journal, as many virtual ones, and ext4 then looks at each inode that was freed
# within the last minute before it gives one out: 450 µs for a file, a third of all that the tests took of the processors. Without root, or without loop devices, they lie where they would.
own_disk() {
	[ "$(id -u)" = 0 ] || return 0
	truncate -s 64G "$out/disk"
	mkfs.ext4 -q -E lazy_itable_init=1 "$out/disk"
	place=$(mktemp -d "${TMPDIR:-/tmp}/s.XXXX")
	if mount -o loop,discard,barrier=0 "$out/disk" "$place"; then
		disk=$place
		chmod 1777 "$disk"
		export TMPDIR=$disk
	else
		rmdir "$place"
	fi
}

# step NAME COMMAND…: runs it, tells how long that took, and notes a failure.
step() {
	name=$1
	shift
	from=$SECONDS
	say "== $name"
	if "$@"; then
		say "== $name: ok, $((SECONDS - from)) s"
	else
		say "== $name: FAILED, $((SECONDS - from)) s"
		failed="$failed, $name"
	fi
}

# beside NAME COMMAND…: begins a step that goes on beside those that follow, until joined NAME waits for it.
declare -A pids
beside() {
	"${@:2}" >"$out/$1.out" 2>&1 &
	pids[$1]=$!
}
joined() { step "$1" join "$1"; }
join() {
	status=0
	wait "${pids[$1]}" || status=$?
	cat "$out/$1.out"
	return $status
}

# tests NAME FLAGS…: go test with a readable report of its JSON, which is added up at the end.
tests() {
	json=$out/$1.json errors=$out/$1.errors
	shift
	status=0
	go test -json "$@" >"$json" 2>"$errors" || status=$?
	cat "$errors"
	"$out/testsum" "$json" || status=1
	return $status
}

# finish: the last lines, which say how many tests passed, failed and were skipped, and which steps failed. It fails if one did.
finish() {
	say "== in all, $((SECONDS - started)) s"
	"$out/testsum" -total "$out"/*.json || failed="${failed:-, tests}"
	[ -z "$failed" ] || fail "FAILED: ${failed#, }"
	say "all is well"
}
