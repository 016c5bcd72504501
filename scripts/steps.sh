# Shared by scripts/test and scripts/soak; sourced after lib.sh: steps that all run even if one fails, and a report of the tests in them.
set -o pipefail
started=$SECONDS
failed=
out=$(mktemp -d)
trap 'rm -r "$out"' EXIT

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
