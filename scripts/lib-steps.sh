# shellcheck shell=bash
# Steps that take long: each says what it is and how far it is, keeps its full output in the cache's logs/,
# shows the tail of it when it fails, and ends its children when it is interrupted.

LOG_DIR=$CAIRNFS_CACHE/logs
STEP_NUMBER=0
STEPS_TOTAL=0
# On a terminal the running step's line is rewritten each second; elsewhere a line is printed this often.
HEARTBEAT_S=30
RUNNING_GROUP=

say() {
	printf '%s\n' "$*"
}

steps_total() {
	STEPS_TOTAL=$1
}

step() {
	STEP_NUMBER=$((STEP_NUMBER + 1))
	say "[$STEP_NUMBER/$STEPS_TOTAL] $* ($(elapsed_s) s)"
}

stop_running_group() {
	if [ -n "$RUNNING_GROUP" ]; then
		kill -TERM -- "-$RUNNING_GROUP" 2>/dev/null || true
	fi
}

# The last line that a log has, cut to fit: the best sign of life of a build.
last_log_line() {
	# shellcheck disable=SC2016 # sed's own $
	tail -c 400 "$1" | tr -d '\r' | sed -n '/[^ ]/h; ${x; s/^ *//; s/^\(.\{70\}\).*/\1.../; p}'
}

show_progress() {
	local name=$1 log=$2 seconds=$3
	if [ -t 1 ]; then
		printf '\r\033[K      %s: %s s  %s' "$name" "$seconds" "$(last_log_line "$log")"
	elif [ "$seconds" -gt 0 ] && [ $((seconds % HEARTBEAT_S)) -eq 0 ]; then
		say "      $name: $seconds s, $(wc -l <"$log") lines: $(last_log_line "$log")"
	fi
}

# run_logged <name> <command>...: the command's own process group, its output to logs/<name>.log.
# Returns the command's failure to a caller that asks for it (||), after its tail has been shown.
run_logged() {
	local name=$1 log=$LOG_DIR/$1.log start=$SECONDS status=0
	shift
	mkdir -p "$LOG_DIR"
	set -m
	("$@") >"$log" 2>&1 </dev/null &
	RUNNING_GROUP=$!
	set +m
	while kill -0 "$RUNNING_GROUP" 2>/dev/null; do
		show_progress "$name" "$log" "$(elapsed_s "$start")"
		sleep 1
	done
	wait "$RUNNING_GROUP" || status=$?
	RUNNING_GROUP=
	if [ -t 1 ]; then
		printf '\r\033[K'
	fi
	if [ "$status" -ne 0 ]; then
		say "      $name: FAILED after $(elapsed_s "$start") s; the last lines of $log:" >&2
		tail -n 25 "$log" | sed 's/^/      | /' >&2
		return "$status"
	fi
	# What a step wants to be seen although it succeeded.
	grep -h '^note: ' "$log" || true
	say "      $name: $(elapsed_s "$start") s"
}

# One set-up at a time in one cache. File descriptor 9 holds the lock until this process has ended and the children that
# inherited it: after a kill -9 a compiler may work on for a while in the folder that the next set-up wants to empty.
lock_cache() {
	exec 9>"$CAIRNFS_CACHE/.lock"
	if ! flock -n 9; then
		say "waiting for another set-up that works in $CAIRNFS_CACHE"
		flock 9
	fi
	trap stop_running_group EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
}
