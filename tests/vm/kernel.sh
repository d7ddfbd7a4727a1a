#!/bin/sh
# Is the guest what the other tests take it for? Kernel options whose absence would make a test pass without testing
# anything, the disks that were asked for, and the folders that every test uses.
# vm: leaks cpus=2 disks=blank:64M,blank:32M
# shellcheck source=tests/vm/lib/tap.sh
. "$CAIRNFS_TESTS/lib/tap.sh"

# Without TRANSPARENT_HUGEPAGE there are no large folios, without VMAP_STACK a stack overflow corrupts in silence,
# without BLK_DEV_WRITE_MOUNTED no test may damage a mounted disk.
OPTIONS="RUST TRANSPARENT_HUGEPAGE VMAP_STACK DETECT_HUNG_TASK FANOTIFY BLK_DEV_WRITE_MOUNTED MEMCG BLK_CGROUP
	FAULT_INJECTION FAILSLAB FAIL_PAGE_ALLOC FAIL_MAKE_REQUEST BLK_DEV_NBD PANIC_ON_OOPS DEBUG_STACK_USAGE"
DEBUG_OPTIONS="KASAN_GENERIC KASAN_VMALLOC PROVE_LOCKING DEBUG_ATOMIC_SLEEP DEBUG_KMEMLEAK SLUB_DEBUG_ON
	SCHED_STACK_END_CHECK DEBUG_VM RUST_OVERFLOW_CHECKS RUST_DEBUG_ASSERTIONS"

option_is_on() {
	zcat /proc/config.gz | grep -qE "^CONFIG_$1=[ym]$"
}

# Not every debug kernel is asked for every option: the one that has KASAN is the one that must have the rest.
is_debug_kernel() {
	option_is_on KASAN
}

keeps_what_is_written() {
	echo cairnfs | dd of="$1" bs=512 conv=sync,fsync 2>/dev/null
	echo 3 >/proc/sys/vm/drop_caches
	[ "$(head -c 7 "$1")" = cairnfs ]
}

count() {
	echo $#
}

if is_debug_kernel; then
	OPTIONS="$OPTIONS $DEBUG_OPTIONS"
fi
# shellcheck disable=SC2086 # a list of words
plan $(($(count $OPTIONS) + 9))

check "/proc/config.gz can be read" zcat /proc/config.gz
for option in $OPTIONS; do
	check "CONFIG_$option is on" option_is_on "$option"
done

# A loaded guest says it with two processors or not at all.
check_equal "two processors are up" 2 "$(grep -c '^processor' /proc/cpuinfo)"
check_equal "the disks that were asked for" "/dev/vda /dev/vdb" "$CAIRNFS_DISKS"
check_equal "first disk, sectors" 131072 "$(cat /sys/block/vda/size)"
check_equal "second disk, sectors" 65536 "$(cat /sys/block/vdb/size)"
check_equal "the disks are in order" "disk0 disk1" "$(cat /sys/block/vda/serial) $(cat /sys/block/vdb/serial)"
check_equal "a disk has a volatile cache to be flushed" "write back" "$(cat /sys/block/vda/queue/write_cache)"
check_equal "a blank disk is zero" 0 "$(tr -d '\0' </dev/vdb | wc -c)"
check "a disk keeps what is written" keeps_what_is_written /dev/vda
finish
