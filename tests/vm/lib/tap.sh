# shellcheck shell=sh
# Results in the Test Anything Protocol (version 14), for tests in shell. Written for the shell of busybox.
#
#   . "$CAIRNFS_TESTS/lib/tap.sh"
#   plan 2
#   check "true is true" true                  # good if the command succeeds; what it prints is shown if it does not
#   check_equal "one and one" 2 "$((1 + 1))"
#   finish
#
# The runner counts: a case that was planned and never reported is a failure, so a test that dies half-way has failed.

tap_planned=0
tap_reported=0
tap_failed=0

# plan N: how many cases there will be.
plan() {
	tap_planned=$1
	echo "TAP version 14"
	echo "1..$1"
}

# skip_all REASON...: none of the cases can be tried here.
skip_all() {
	echo "TAP version 14"
	echo "1..0 # SKIP $*"
	exit 0
}

# comment TEXT...: for people; several lines are fine.
comment() {
	printf '%s\n' "$*" | sed 's/^/# /'
}

# pass NAME...
pass() {
	tap_reported=$((tap_reported + 1))
	echo "ok $tap_reported - $*"
}

# fail NAME...
fail() {
	tap_reported=$((tap_reported + 1))
	tap_failed=$((tap_failed + 1))
	echo "not ok $tap_reported - $*"
}

# skip NAME REASON
skip() {
	tap_reported=$((tap_reported + 1))
	echo "ok $tap_reported - $1 # SKIP $2"
}

# bail_out REASON...: nothing more can be tried.
bail_out() {
	echo "Bail out! $*"
	exit 1
}

# check NAME COMMAND [ARGUMENT]...
check() {
	tap_name=$1
	shift
	tap_status=0
	tap_output=$("$@" 2>&1) || tap_status=$?
	if [ "$tap_status" -eq 0 ]; then
		pass "$tap_name"
	else
		fail "$tap_name"
		comment "$* ended with $tap_status"
		comment "$tap_output"
	fi
}

# check_fails NAME TEXT COMMAND [ARGUMENT]...: the command must fail, and say TEXT.
check_fails() {
	tap_name=$1
	tap_text=$2
	shift 2
	tap_status=0
	tap_output=$("$@" 2>&1) || tap_status=$?
	case "$tap_status:$tap_output" in
	0:*)
		fail "$tap_name"
		comment "$* succeeded"
		;;
	*"$tap_text"*) pass "$tap_name" ;;
	*)
		fail "$tap_name"
		comment "$* ended with $tap_status and did not say '$tap_text':"
		comment "$tap_output"
		;;
	esac
}

# check_equal NAME WANTED FOUND
check_equal() {
	if [ "$2" = "$3" ]; then
		pass "$1"
	else
		fail "$1"
		comment "wanted: $2"
		comment "found:  $3"
	fi
}

# finish: the end of a test; its exit code says whether all went well.
finish() {
	[ "$tap_failed" -eq 0 ] && [ "$tap_reported" -eq "$tap_planned" ]
	exit
}
