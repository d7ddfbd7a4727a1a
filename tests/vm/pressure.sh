#!/bin/sh
# Little memory: the page cache pushes out inodes and metadata blocks while others are in use, and everything is still there.
# On the debug kernel lockdep sees which locks reclaim takes, and which are held where memory is asked for.
# vm: own_boot memory_mib=512 cpus=2 timeout_s=180 disks=blank:3G programs=mkfs-cairnfs,fsck-cairnfs
# shellcheck source=tests/vm/lib/tap.sh
. "$CAIRNFS_TESTS/lib/tap.sh"

DEVICE=${CAIRNFS_DISKS%% *}
FILES=500

small_files() {
	mkdir /mnt/small && cd /mnt/small || return
	i=0
	while [ "$i" -lt "$FILES" ]; do
		echo "$i" >"$i" && ln -s "$i" "link-$i" || return
		i=$((i + 1))
	done
	cd / && sync
}

# Directories, links and small files in use, while one file fills the memory several times over.
squeeze() {
	dd if=/dev/zero of=/mnt/large bs=1M count=1200 2>/dev/null &
	writer=$!
	while kill -0 "$writer" 2>/dev/null; do
		ls -lR /mnt >/dev/null && cat /mnt/small/link-* >/dev/null || return
		touch /mnt/small/new && mv /mnt/small/new /mnt/small/moved && rm /mnt/small/moved || return
	done
	wait "$writer"
}

contents() {
	cat /mnt/small/link-* | sort -n | uniq | wc -l
}

plan 8
check "the module is loaded" insmod "$CAIRNFS_MODULES/cairnfs.ko"
check "a filesystem is made" mkfs-cairnfs -q -f "$DEVICE"
check "and mounted" mount -t cairnfs "$DEVICE" /mnt
check "$FILES small files and links" small_files
check "they are used while memory is short" squeeze
check_equal "all are there" "$FILES" "$(contents)"
check "it unmounts" umount /mnt
check "and is sound" fsck-cairnfs -n -f "$DEVICE"
finish
