#!/bin/sh
# Loading and unloading: the filesystem's type appears and goes, and a hundred rounds leave neither memory nor a message
# behind.
# vm: leaks timeout_s=90
# shellcheck source=tests/vm/lib/tap.sh
. "$CAIRNFS_TESTS/lib/tap.sh"

ROUNDS=50
MODULE=$CAIRNFS_MODULES/cairnfs.ko

is_listed() {
	grep -qx "nodev	$1\|	$1" /proc/filesystems
}

is_not_listed() {
	! is_listed "$1"
}

# What the slab allocator holds and cannot give back, in KiB: a leak in the module's exit would grow it each round.
unreclaimable_kib() {
	echo 3 >/proc/sys/vm/drop_caches
	sed -n 's/^SUnreclaim: *\([0-9]*\) kB$/\1/p' /proc/meminfo
}

rounds() {
	round=0
	while [ "$round" -lt "$1" ]; do
		insmod "$MODULE" && rmmod cairnfs || return
		round=$((round + 1))
	done
}

messages() {
	dmesg | grep -ciE "$1"
}

plan 12

check "the type is not listed before" is_not_listed cairnfs
check "the module is loaded" insmod "$MODULE"
check "the type is listed" is_listed cairnfs
check "it is a type for block devices" grep -qx "	cairnfs" /proc/filesystems
check_fails "a second load is refused" "File exists" insmod "$MODULE"
check_equal "nobody uses the module" 0 "$(cat /sys/module/cairnfs/refcnt)"
check "the module is unloaded" rmmod cairnfs
check "the type is not listed after" is_not_listed cairnfs

# The first rounds fill caches that stay.
check "$ROUNDS rounds" rounds "$ROUNDS"
before_kib=$(unreclaimable_kib)
check "$ROUNDS rounds again" rounds "$ROUNDS"
after_kib=$(unreclaimable_kib)
comment "slab that cannot be reclaimed: $before_kib KiB before, $after_kib KiB after"
check "the second fifty rounds leave no slab memory" [ "$((after_kib - before_kib))" -lt 256 ]
check_equal "no message of the module is a warning" 0 "$(messages 'cairnfs: .*(warn|error|fail|leak)')"
finish
