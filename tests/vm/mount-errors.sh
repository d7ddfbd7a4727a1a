#!/bin/sh
# What cannot be mounted is refused with the right error number, and leaves no trace (tests/guest, guest-mount-errors).
# vm: leaks disks=blank:64M
insmod "$CAIRNFS_MODULES/cairnfs.ko" || exit
guest-mount-errors "${CAIRNFS_DISKS%% *}"
status=$?
rmmod cairnfs && exit "$status"
