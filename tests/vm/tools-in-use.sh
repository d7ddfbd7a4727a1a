#!/bin/sh
# The tools on a device that is mounted: what writes refuses, also by force, and says where it is mounted; what reads warns.
# vm: leaks disks=blank:64M programs=mkfs-cairnfs,fsck-cairnfs,cairnfs
# shellcheck source=tests/vm/lib/tap.sh
. "$CAIRNFS_TESTS/lib/tap.sh"

DEVICE=${CAIRNFS_DISKS%% *}
IN_USE="$DEVICE is mounted on /mnt"

# says WORDS STATUS COMMAND...: ends with that status, and the words are on its stderr.
says() {
	words=$1 wanted=$2
	shift 2
	"$@" >/dev/null 2>/tmp/said
	found=$?
	cat /tmp/said >&2
	[ "$found" -eq "$wanted" ] && grep -qF "$words" /tmp/said
}

write_a_file() {
	echo content >/mnt/file && sync
}

plan 12
check "the module is loaded" insmod "$CAIRNFS_MODULES/cairnfs.ko"
check "a filesystem is made" mkfs-cairnfs -q -f "$DEVICE"
# Nothing is to be written while they look.
check "and mounted" mount -t cairnfs -o commit_interval_s=3600,checkpoint_interval_s=3600 "$DEVICE" /mnt
check "a file is written" write_a_file
check "mkfs refuses" says "$IN_USE" 1 mkfs-cairnfs -q -f "$DEVICE"
check "so does an fsck that may write" says "$IN_USE" 8 fsck-cairnfs -p "$DEVICE"
check "fsck -n warns, and finds it sound" says "warning: $IN_USE" 0 fsck-cairnfs -n -f "$DEVICE"
check "journal verify warns" says "warning: $IN_USE" 0 cairnfs journal verify "$DEVICE"
check "the file is there" grep -q content /mnt/file
check "it unmounts" umount /mnt
check "and is sound" fsck-cairnfs -n -f "$DEVICE"
check "the module is unloaded" rmmod cairnfs
finish
