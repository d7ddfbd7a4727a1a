"""What counts as a bad message of the kernel, and what does not."""

import re
import unittest

from vmlib import kernel_log

BAD = (
    "BUG: kernel NULL pointer dereference, address: 0000000000000000",
    "BUG: KASAN: slab-use-after-free in foo+0x1/0x2 [cairnfs]",
    "BUG: sleeping function called from invalid context at kernel/locking/mutex.c:585",
    "BUG: Bad page state in process rm  pfn:12345",
    "BUG kmalloc-64 (Tainted: G           O      ): Poison overwritten",
    "BUG: MAX_LOCKDEP_ENTRIES too low!",
    "kernel BUG at fs/inode.c:123!",
    "Oops: Oops: 0000 [#1] PREEMPT SMP",
    "general protection fault, probably for non-canonical address 0xdead000000000100: 0000 [#1]",
    "WARNING: CPU: 0 PID: 77 at fs/inode.c:321 drop_nlink+0x20/0x30",
    "WARNING: possible circular locking dependency detected",
    "WARNING: inconsistent lock state",
    "WARNING: bad unlock balance detected!",
    "WARNING: suspicious RCU usage",
    "INFO: task touch:80 blocked for more than 1 seconds.",
    "INFO: trying to register non-static key.",
    "INFO: lockdep is turned off.",
    "turning off the locking correctness validator.",
    "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
    "rcu: INFO: rcu_sched self-detected stall on CPU",
    "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [sh:1]",
    "UBSAN: array-index-out-of-bounds in fs/foo.c:1:2",
    "kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)",
    "kmemleak: Cannot allocate a kmemleak_object structure",
    "rust_kernel: panicked at rust/core/x.rs:1:2:",
    "refcount_t: underflow; use-after-free.",
    "list_add corruption. prev->next should be next (1), but was 2. (prev=3).",
    "kmem_cache_destroy cairnfs_inode: Slab cache still has objects when called from exit",
    "Kernel panic - not syncing: sysrq triggered crash",
    "Out of memory: Killed process 1 (init)",
    "prog[80]: segfault at 0 ip 0 sp 0 error 4",
)
NOT_BAD = (
    "Spectre V2 : WARNING: Unprivileged eBPF is enabled with eIBRS on",
    "RETBleed: WARNING: Spectre v2 mitigation leaves CPU vulnerable",
    "rcu: \tRCU CPU stall warnings timeout set to 60 (rcu_cpu_stall_timeout).",
    "kasan: KernelAddressSanitizer initialized",
    "kmemleak: Kernel memory leak detector initialized (mem pool available: 15850)",
    # Where it was not asked for. One that gives up says why before, and fails the guest's health.
    "kmemleak: Kernel memory leak detector disabled",
    "cairnfs-guest: begin 3 /tests/BUG: in a name",
    "Lock dependency validator: Copyright (c) 2006 Red Hat, Inc., Ingo Molnar",
    "EXT4-fs (vda): mounted filesystem without journal. Quota mode: none.",
    "reboot: Power down",
)


def stamped(message: str, second: int = 1) -> str:
    return f"[    {second}.000001] {message}"


class KernelLog(unittest.TestCase):
    def test_bad_messages_are_found(self) -> None:
        for message in BAD:
            for prefix in ("", "[T12] ", "[    C0] "):
                with self.subTest(message, prefix=prefix):
                    findings = kernel_log.find_splats([stamped(prefix + message)])
                    self.assertEqual([finding.message for finding in findings], [message])

    def test_harmless_messages_are_passed_over(self) -> None:
        for message in NOT_BAD:
            with self.subTest(message):
                self.assertEqual(kernel_log.find_splats([stamped(message)]), [])

    def test_one_report_is_one_finding(self) -> None:
        report = ["BUG: KASAN: bad", "Call Trace:", "Oops: 1", "Kernel panic - not syncing: Fatal exception"]
        lines = [stamped(line) for line in report]
        self.assertEqual(len(kernel_log.find_splats(lines)), 1)
        later = lines + [stamped("harmless")] * 50 + [stamped("WARNING: another")]
        self.assertEqual(len(kernel_log.find_splats(later)), 2)

    def test_an_expected_message_excuses_only_itself(self) -> None:
        expected = re.compile("possible circular locking")
        lines = [stamped("WARNING: possible circular locking dependency detected"), stamped("BUG: another")]
        self.assertEqual([each.message for each in kernel_log.find_splats(lines, expected)], ["BUG: another"])

    def test_the_end_of_a_request(self) -> None:
        lines = [stamped("cairnfs-guest: begin 1 x"), stamped("y"), stamped("cairnfs-guest: end 1"), stamped("z")]
        self.assertEqual(kernel_log.line_after_request(lines, 1), 3)
        self.assertIsNone(kernel_log.line_after_request(lines, 2))
        self.assertIsNone(kernel_log.line_after_request(lines[:2], 1))

    def test_stack_left(self) -> None:
        lines = [stamped(f"sh (7) used greatest stack depth: {left} bytes left") for left in (14000, 9000, 13000)]
        self.assertEqual(kernel_log.least_stack_left_bytes(lines), 9000)
        listed = "task:kworker/0:1     state:I stack:8200  pid:9     tgid:9     ppid:2      flags:0x00004000"
        self.assertEqual(kernel_log.least_stack_left_bytes([*lines, stamped(listed)]), 8200)
        self.assertIsNone(kernel_log.least_stack_left_bytes([]))
