#!/bin/sh
# Run in every guest before it ends: is the kernel still whole? What only the debug kernel has is skipped elsewhere. That lockdep
# is alive is said in the kernel's log too, where `scripts/vm judge` looks for it.
# shellcheck source=tests/vm/lib/tap.sh
. "$CAIRNFS_TESTS/lib/tap.sh"

# Bits of /proc/sys/kernel/tainted that a sound run never sets: M machine check, B bad page, D died, W warned,
# L soft lockup, S out of specification. (O and E, a module from outside the tree without a signature, are expected.)
BAD_TAINTS=$((1 << 4 | 1 << 5 | 1 << 7 | 1 << 9 | 1 << 14 | 1 << 2))
KMEMLEAK=/sys/kernel/debug/kmemleak
# Younger objects than this count as still on their way into a structure.
KMEMLEAK_MIN_AGE_S=6

plan 3

# How much each task has left of its stack: the kernel says it by itself only of tasks that end. The runner reads the log.
echo t >/proc/sysrq-trigger

taints=$(cat /proc/sys/kernel/tainted)
check_equal "the kernel is not tainted by a fault (tainted: $taints)" 0 "$((taints & BAD_TAINTS))"

if [ -r /proc/lockdep_stats ]; then
	alive=$(sed -n 's/^ *debug_locks: *//p' /proc/lockdep_stats)
	check_equal "lockdep is alive" 1 "$alive"
	if [ "$alive" = 1 ]; then echo "cairnfs-health: lockdep is alive" >/dev/kmsg; fi
else
	skip "lockdep is alive" "this kernel has no lockdep"
fi

if grep -q kmemleak=off /proc/cmdline; then
	skip "no memory is leaked" "this guest is not asked to look for leaks"
elif [ -w "$KMEMLEAK" ]; then
	sleep "$KMEMLEAK_MIN_AGE_S"
	# An object is reported when it was unreachable in a scan; a pointer that was in a register may hide it from one,
	# and one that is moved during a scan makes it look lost: two scans settle both.
	if echo scan >"$KMEMLEAK" && echo scan >"$KMEMLEAK"; then
		check_equal "no memory is leaked" "" "$(cat "$KMEMLEAK")"
	else
		fail "no memory is leaked"
		comment "kmemleak has switched itself off"
	fi
else
	skip "no memory is leaked" "this kernel has no kmemleak"
fi

finish
