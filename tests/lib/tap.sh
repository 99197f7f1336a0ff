# tap.sh: TAP for scenario tests in sh.  Source it first:
#
#	. "$(dirname "$0")/../lib/tap.sh"
#	run "$BIN/virt-restore" --version
#	is "$status" 0 'prints its version'
#	done_testing
#
# Sets TOP (the source tree), OVB_BUILD (absolute), BIN and TOOLS (programs and instruments in it), WORK (a fresh, empty
# folder, which is also the current one) and LC_ALL=C, TZ=UTC.  At the end, failure and signals included: what start and
# mount_imagefs began is ended by process id, what is mounted beneath WORK is unmounted, and WORK is removed.
# shellcheck shell=sh
# shellcheck disable=SC2034	# the variables are for the test

TOP=$(cd "$(dirname "$0")/../.." && pwd) || exit 1
OVB_BUILD=$(cd "$TOP" && realpath -m "${OVB_BUILD:-build}")
BIN=$OVB_BUILD/bin
TOOLS=$OVB_BUILD/tests/tools
LIB=$TOP/tests/lib
RUN_TIMEOUT=${RUN_TIMEOUT:-300}
LC_ALL=C TZ=UTC
export LC_ALL TZ OVB_BUILD

tap_count=0 tap_failed=0 tap_planned='' tap_finished='' tap_pids=''
tap_dir=$(mktemp -d "${TMPDIR:-/tmp}/ovb-test.XXXXXX") && tap_dir=$(realpath "$tap_dir") || exit 1
WORK=$tap_dir/work

# What is mounted beneath WORK, the latest first.
tap_mounts() {
	cut -d ' ' -f 5 /proc/self/mountinfo | while read -r m; do
		m=$(printf '%b' "$(printf '%s' "$m" | sed 's/\\\([0-7][0-7][0-7]\)/\\0\1/g')")
		case $m in "$tap_dir"/*) printf '%s\n' "$m" ;; esac
	done | tac
}

tap_cleanup() {
	tap_status=$?
	trap '' HUP INT TERM PIPE
	trap - EXIT
	cd / || :
	for p in $tap_pids; do stop "$p"; done
	tap_mounts | while read -r m; do umount "$m" 2>/dev/null || umount -l "$m"; done
	rm -rf --one-file-system "$tap_dir"
	if [ -z "$tap_finished" ] && [ "$tap_status" = 0 ]; then
		echo '# the test ended without done_testing'
		tap_status=1
	fi
	exit "$tap_status"
}
trap tap_cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 141' PIPE
trap 'exit 143' TERM
mkdir "$WORK" && cd "$WORK" || exit 1

diag() { printf '%s\n' "$*" | sed 's/^/# /'; }
plan() { tap_planned=$1; echo "1..$1"; }

# skip_all REASON: the whole test cannot run here.
skip_all() { tap_finished=1; echo "1..0 # SKIP $1"; exit 0; }

# skip COUNT REASON: so many tests cannot run here.
skip() {
	tap_left=$1
	while [ "$tap_left" -gt 0 ]; do
		tap_count=$((tap_count + 1)) tap_left=$((tap_left - 1))
		echo "ok $tap_count # SKIP $2"
	done
}

pass() { tap_count=$((tap_count + 1)); echo "ok $tap_count - $1"; }
fail() { tap_count=$((tap_count + 1)) tap_failed=$((tap_failed + 1)); echo "not ok $tap_count - $1"; return 1; }

# ok NAME COMMAND...: the command succeeds.  nok: it fails.
ok() { tap_name=$1; shift; if "$@"; then pass "$tap_name"; else fail "$tap_name" || diag "failed: $*"; return 1; fi; }
nok() { tap_name=$1; shift; if "$@"; then fail "$tap_name" || diag "did not fail: $*"; return 1; else pass "$tap_name"; fi; }

# is GOT WANTED NAME: equal texts.
is() {
	if [ "$1" = "$2" ]; then pass "$3"; return 0; fi
	fail "$3" || { diag "got:    $1"; diag "wanted: $2"; return 1; }
}

# like GOT REGEX NAME: an extended regular expression matches a line of the text.
like() {
	if printf '%s\n' "$1" | grep -Eq -e "$2"; then pass "$3"; return 0; fi
	fail "$3" || { diag "got:    $1"; diag "wanted: /$2/"; return 1; }
}

unlike() {
	if ! printf '%s\n' "$1" | grep -Eq -e "$2"; then pass "$3"; return 0; fi
	fail "$3" || { diag "got:      $1"; diag "unwanted: /$2/"; return 1; }
}

# run PROGRAM...: sets status (124 after RUN_TIMEOUT seconds), stdout and stderr; the files are $tap_dir/stdout, stderr.
run() {
	status=0
	timeout --foreground -k 5 "$RUN_TIMEOUT" "$@" >"$tap_dir/stdout" 2>"$tap_dir/stderr" || status=$?
	stdout=$(cat "$tap_dir/stdout")
	stderr=$(cat "$tap_dir/stderr")
}

# start PROGRAM...: in the background; sets pid.  stop PID: TERM, after 10 seconds KILL; sets status.
start() { "$@" & pid=$!; tap_pids="$pid $tap_pids"; }
stop() {
	case " $tap_pids " in *" $1 "*) ;; *) return 1 ;; esac
	tap_pids=$(printf '%s' "$tap_pids" | tr ' ' '\n' | grep -vx "$1" | tr '\n' ' ')
	kill "$1" 2>/dev/null || :
	tap_tries=0
	while tap_running "$1" && [ "$tap_tries" -lt 100 ]; do sleep 0.1; tap_tries=$((tap_tries + 1)); done
	if tap_running "$1"; then kill -KILL "$1" 2>/dev/null || :; fi
	status=0
	wait "$1" 2>/dev/null || status=$?
}
# A process that ended but was not waited for still answers to kill -0.
tap_running() { kill -0 "$1" 2>/dev/null && ! grep -q '^State:[[:space:]]*Z' "/proc/$1/status" 2>/dev/null; }

# mount_imagefs [OPTION...] SOURCE MOUNTPOINT: sets pid; stop "$pid" unmounts.
mount_imagefs() {
	for tap_mountpoint; do :; done
	tap_mountpoint=$(realpath "$tap_mountpoint")
	start "$TOOLS/imagefs" --foreground "$@"
	tap_tries=0
	until mountpoint -q "$tap_mountpoint"; do
		tap_tries=$((tap_tries + 1))
		if ! tap_running "$pid" || [ "$tap_tries" -gt 100 ]; then diag "imagefs $* did not mount"; return 1; fi
		sleep 0.1
	done
}

# preload_die [VARIABLE=VALUE...] PROGRAM...: run under the crash library.  A sanitizer must not insist on being loaded first.
preload_die() {
	run env ASAN_OPTIONS="verify_asan_link_order=0:$ASAN_OPTIONS" LD_PRELOAD="$TOOLS/preload_die.so" "$@"
}

# Prints the plan if there was none, and ends the test.
done_testing() {
	tap_finished=1
	[ -n "$tap_planned" ] || echo "1..$tap_count"
	[ "$tap_failed" = 0 ] || { diag "$tap_failed of $tap_count failed"; exit 1; }
	exit 0
}
