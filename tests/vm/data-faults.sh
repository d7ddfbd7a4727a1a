#!/bin/sh
# What files hold where requests of the disk fail, or where each allocation of a call is refused in turn, on a new cairnfs
# (tests/guest, guest-data). Looks for leaks: it is paths of errors that forget to free.
# vm: timeout_s=300 leaks cpus=2 disks=blank:1G programs=mkfs-cairnfs,fsck-cairnfs,/usr/bin/perl
insmod "$CAIRNFS_MODULES/cairnfs.ko" || exit
guest-data "${CAIRNFS_DISKS%% *}" cairnfs faults memory
status=$?
rmmod cairnfs && exit "$status"
