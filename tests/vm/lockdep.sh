#!/bin/sh
# Lockdep watches over cairnfs' locks, and would speak: after a little work it knows each of them by name, and a module that
# takes two mutexes in both orders (tests/lockdep) is reported. Behind that lockdep is off, so no other test shares the guest,
# and its health is not asked.
# vm: own_boot kernels=debug test_modules=lockdep disks=blank:64M programs=mkfs-cairnfs
# vm: expect_log="WARNING: possible circular locking dependency detected"
# shellcheck source=tests/vm/lib/tap.sh
. "$CAIRNFS_TESTS/lib/tap.sh"

# docs/locking.md has them. Sub-classes are what a thread takes while it holds others of the kind. Not here is what a little work
# does not come to: Mounted::orphan_index is for an index that is full.
LOCKS="InodeData::state InodeData::state/1 Mounted::groups GroupCell::group Journaling::state Mounted::ledger Mounted::orphans
	Mounted::checkpointer Mounted::flusher Mounted::orphan_remover Mounted::superblock Mounted::workers Mounted::statistics Metadata::cache
	Metadata::header_marks"

# Pairs that are always taken so: the outer one, the inner one.
ORDERS="InodeData::state>GroupCell::group GroupCell::group>Journaling::state
	Mounted::checkpointer>Mounted::flusher Mounted::flusher>Journaling::state"

debug_locks() {
	sed -n 's/^ *debug_locks: *//p' /proc/lockdep_stats
}

# A file that is written, moved, and removed while open, sizes, unmounts, a mount for reading: something for every lock.
work() {
	mkfs-cairnfs -q -f "$CAIRNFS_DISKS" && mount -t cairnfs "$CAIRNFS_DISKS" /mnt || return
	mkdir /mnt/a /mnt/b && echo text >/mnt/a/file && sync && mv /mnt/a/file /mnt/b/file && ls -lR /mnt && df /mnt || return
	exec 3</mnt/b/file
	rm /mnt/b/file && sync || return
	exec 3<&-
	umount /mnt && mount -t cairnfs -o ro "$CAIRNFS_DISKS" /mnt && ls -lR /mnt && umount /mnt
}

# A class is a line `<address> FD: <n> BD: <n> <use>: <name>`; those that were taken under it follow, `-> [<address>] <name>`.
is_known() {
	grep -qE "^[^ ]+ .*: $1\$" /proc/lockdep
}

# Whether lockdep has seen $2 taken under $1, directly or through a third.
is_under() {
	awk -v outer="$1" -v inner="$2" '
		/^ -> / { if (holder != "") below[holder] = below[holder] " " $NF; next }
		{ holder = $NF }
		END {
			queue[1] = outer
			last = 1
			for (next_one = 1; next_one <= last; next_one++) {
				count = split(below[queue[next_one]], names, " ")
				for (i = 1; i <= count; i++) {
					if (names[i] == inner) { exit 0 }
					if (!(names[i] in seen)) { seen[names[i]]; queue[++last] = names[i] }
				}
			}
			exit 1
		}' /proc/lockdep
}

# The report is about the module's own two mutexes.
report_names() {
	dmesg | sed -n '/possible circular locking/,/stack backtrace/p' | grep -q "($1){"
}

count() {
	echo $#
}

# shellcheck disable=SC2086 # lists of words
plan $(($(count $LOCKS) + $(count $ORDERS) + 8))

check "the module is loaded" insmod "$CAIRNFS_MODULES/cairnfs.ko"
check "names are made and removed" work
for lock in $LOCKS; do
	check "lockdep knows $lock" is_known "$lock"
done
for order in $ORDERS; do
	check "lockdep has seen $order" is_under "${order%%>*}" "${order#*>}"
done
check_equal "lockdep has nothing against it" 1 "$(debug_locks)"
check "cairnfs is unloaded" rmmod cairnfs

check "a module takes two mutexes in both orders" insmod "$CAIRNFS_MODULES/lock_inversion.ko"
check_equal "lockdep has spoken" 0 "$(debug_locks)"
check "it names the first mutex" report_names inversion_first
check "it names the second mutex" report_names inversion_second
finish
