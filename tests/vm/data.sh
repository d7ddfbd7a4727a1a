#!/bin/sh
# What files hold, by every way in and out, and on a full disk, on a new cairnfs (tests/guest, guest-data). Where the disk fails
# or memory is refused: data-faults.
# vm: timeout_s=900 cpus=2 disks=blank:1G programs=mkfs-cairnfs,fsck-cairnfs,/usr/bin/perl
insmod "$CAIRNFS_MODULES/cairnfs.ko" || exit
guest-data "${CAIRNFS_DISKS%% *}" cairnfs -faults -memory
status=$?
rmmod cairnfs && exit "$status"
