#!/bin/sh
# Every call that changes names or attributes, on a new cairnfs that is mounted for writing (tests/guest, guest-names).
# vm: timeout_s=600 leaks cpus=2 disks=blank:1G programs=mkfs-cairnfs,fsck-cairnfs,/usr/bin/perl
insmod "$CAIRNFS_MODULES/cairnfs.ko" || exit
guest-names "${CAIRNFS_DISKS%% *}" cairnfs
status=$?
rmmod cairnfs && exit "$status"
