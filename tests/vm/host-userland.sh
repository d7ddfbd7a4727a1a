#!/bin/bash
# A guest with the host's userland: its programs run, and the module loads there too.
# vm: userland=host disks=blank:64M timeout_s=90
# shellcheck source=tests/vm/lib/tap.sh
. "$CAIRNFS_TESTS/lib/tap.sh"

plan 5
check "a program of the host runs" /usr/bin/python3 -c 'print(1)'
check "mkfs.ext4 of the host works on the disk" /sbin/mkfs.ext4 -q -F "$CAIRNFS_DISKS"
check "the module is loaded" insmod "$CAIRNFS_MODULES/cairnfs.ko"
check "the module is unloaded" rmmod cairnfs
check "a static program of the tests is there" test -x /run/cairnfs/bin/cairnfs-guest-init
finish
