"""Virtual machines for the tests, the demo and the shell of cairnfs.

The layers, from the bottom: `environment` (what set-up built), `accelerator` (KVM or emulation), `initramfs` and
`programs` (what a lean guest boots with), `channel` (frames over a virtio port), `qemu` and `virtme` (two ways to
start a guest), `guest` (one running guest), `kernel_log` and `tap` (what is good and what is bad), `cases` (tests on the host),
`discovery` and `runner` (tests), `command_line` (scripts/vm). Nothing but the Python standard library is used.
"""
