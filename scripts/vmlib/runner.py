"""Runs tests: boots guests, feeds them tests one after another, judges each by its words and by the kernel's log.

A test fails when a case fails, when it announced no plan or reported fewer cases than planned, when its exit code is
not 0, when it takes too long, when the guest dies, and when the kernel's log has a bad message. The log is judged
without gaps: what came since the last judgement counts against the test that has just ended. After a failure of the
guest's own (not of a case) the tests that are left get a fresh guest: a spoilt kernel proves nothing about them.
Before a guest ends, its health is a test of its own (tests/vm/lib/health.sh), and then it must power off cleanly.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from vmlib import kernel_log, machines
from vmlib.discovery import Test, group_by_boot
from vmlib.environment import REPOSITORY, Environment
from vmlib.guest import Guest, GuestError, GuestTimeout, RequestRefused
from vmlib.machines import MachineConfig
from vmlib.report import RunResult, TapPrinter, TestResult
from vmlib.tap import TapReader

_POWER_OFF_TIMEOUT_S = 20.0
_EXCERPT_LINES = 25


class LineFeed:
    """Cuts the output of a test into lines, shows them, and has them read as TAP."""

    def __init__(self, printer: TapPrinter, prefix: str = "") -> None:
        self.tap = TapReader()
        self._printer = printer
        self._prefix = prefix
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Takes in a piece of output."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take(line)

    def end(self) -> None:
        """Takes in a last line that has no end."""
        if self._rest:
            self._take(self._rest)
        self._rest = b""

    def _take(self, data: bytes) -> None:
        line = data.decode(errors="replace").rstrip("\r")
        self._printer.line_of_test(self._prefix + line)
        self.tap.feed(line)


def result_of_tap(name: str, tap: TapReader) -> TestResult:
    """What a report says by itself."""
    return TestResult(
        name=name,
        passed=tap.passed,
        failed=tap.failed,
        skipped=tap.skipped,
        problems=tap.problems(),
        skip_reason=tap.skip_all_reason,
        cases=tap.cases,
    )


@dataclass
class Words:
    """Where the words of tests go that run one after another: to the run's printer, or, beside others, to one that keeps them until
    the test has ended."""

    printer: TapPrinter
    kept: io.StringIO | None = None

    @staticmethod
    def keeping() -> Words:
        """Words that are kept."""
        kept = io.StringIO()
        return Words(TapPrinter(kept), kept)

    def take_kept(self) -> str:
        """What has been kept; from now on other words are."""
        if self.kept is None:
            return ""
        text = self.kept.getvalue()
        self.kept.seek(0)
        self.kept.truncate()
        return text


@dataclass
class BootedGuest:
    """A guest in use, how far its log has been judged, and whether anything more may be tried on it."""

    guest: Guest
    config: MachineConfig
    words: Words
    judged_lines: int = 0
    spoilt: bool = False


class Runner:
    """One run over a list of tests."""

    def __init__(self, environment: Environment, printer: TapPrinter, logs: Path, jobs: int = 1) -> None:
        self._environment = environment
        self._printer = printer
        self._logs = logs
        # How many tests run at a time.
        self._jobs = jobs
        self._reporting = threading.Lock()
        accelerator = machines.choose_accelerator(environment, printer.comment)
        self.result = RunResult(kernel=environment.flavour, accelerator=accelerator.name)

    def run(self, tests: list[Test]) -> RunResult:
        """Runs them all."""
        began = time.monotonic()
        self._printer.begin_run()
        wanted = [test for test in tests if self._environment.flavour in test.kernels]
        for test in tests:
            if test not in wanted:
                self._report(TestResult(test.name, skip_reason=f"not for the {self._environment.flavour} kernel"))
        with ThreadPoolExecutor(self._jobs) as pool:
            groups = group_by_boot([test for test in wanted if not test.on_host])
            begun = [pool.submit(self._run_group, deque(group)) for group in groups]
            beside = [test for test in wanted if test.on_host and not test.alone]
            begun += [pool.submit(self._run_host_test, test) for test in beside]
            for done in begun:
                done.result()
        for test in wanted:
            if test.alone:
                self._run_host_test(test)
        self._printer.end_run()
        self.result.time_s = time.monotonic() - began
        return self.result

    def _words(self) -> Words:
        return Words(self._printer) if self._jobs == 1 else Words.keeping()

    def _report(self, result: TestResult, words: Words | None = None) -> None:
        with self._reporting:
            if words:
                self._printer.print_all_of(words.take_kept())
            self.result.tests.append(result)
            self._printer.end_test(result)

    # Guests -----------------------------------------------------------------------------------------------------

    def _run_group(self, pending: deque[Test]) -> None:
        """Runs tests in as few guests as their mishaps allow; every round takes at least one test off."""
        words = self._words()
        while pending:
            config = pending[0].machine
            with self._reporting:
                self.result.boots += 1
                console = self._logs / f"console-{self.result.boots}.log"
            guest = machines.make_guest(self._environment, config, console)
            try:
                guest.start()
            except GuestError as error:
                words.printer.comments_of_test(error.console_tail)
                while pending:
                    self._report(TestResult(pending.popleft().name, problems=[f"the guest did not boot: {error}"]), words)
                return
            if guest.repeated_boots:
                words.printer.comment(f"the emulator broke {guest.repeated_boots} boots, which were repeated: {guest.broken_console}")
            try:
                self._use_guest(BootedGuest(guest, config, words), pending)
            finally:
                guest.close()
            with self._reporting:
                self.result.boot_time_s += guest.boot_time_s
                self.result.note_stack_left(kernel_log.least_stack_left_bytes(guest.log_lines()))

    def _use_guest(self, booted: BootedGuest, pending: deque[Test]) -> None:
        first = True
        while pending and not booted.spoilt:
            if not first:
                machines.empty_blank_disks(booted.config, booted.guest.folder)
            first = False
            self._run_guest_test(booted, pending.popleft())
        if not booted.spoilt:
            self._end_guest(booted)

    def _end_guest(self, booted: BootedGuest) -> None:
        folder = booted.config.tests_folder
        health = Test("guest-health", folder / machines.HEALTH_TEST, booted.config, timeout_s=machines.HEALTH_TIMEOUT_S)
        result = self._run_in_guest(booted, health)
        if not booted.spoilt:
            try:
                booted.guest.power_off(_POWER_OFF_TIMEOUT_S * self._environment.slowness)
            except GuestError as error:
                booted.words.printer.comments_of_test(error.console_tail)
                result.problems.append(str(error))
            self._judge_log(booted, health, booted.guest.log_lines(), result)
        self._report(result, booted.words)

    def _run_guest_test(self, booted: BootedGuest, test: Test) -> None:
        self._report(self._run_in_guest(booted, test), booted.words)

    def _run_in_guest(self, booted: BootedGuest, test: Test) -> TestResult:
        printer = booted.words.printer
        printer.begin_test(test.name)
        began = time.monotonic()
        output, errors = LineFeed(printer), LineFeed(printer, prefix="# ")
        trouble: list[str] = []
        guest = booted.guest
        timeout_s = test.timeout_s * self._environment.slowness
        try:
            program = guest.start_program(
                [f"{machines.tests_path(booted.config)}/{test.path.relative_to(test.machine.tests_folder)}"],
                environment=machines.test_environment(self._environment, booted.config),
                on_output=output.feed,
                on_error_output=errors.feed,
            )
            completed = program.wait(timeout_s)
            log = guest.log_through(program, _POWER_OFF_TIMEOUT_S)
            if completed.exit_code != 0:
                trouble.append(f"its exit code was {completed.exit_code}")
        except RequestRefused as error:
            trouble.append(str(error))
            log = guest.log_lines()
        except GuestError as error:
            booted.spoilt = True
            trouble.append(str(error))
            if isinstance(error, GuestTimeout):
                guest.list_blocked_tasks()
            guest.kill()
            printer.comments_of_test(guest.console_tail())
            log = guest.log_lines()
        output.end()
        errors.end()
        result = result_of_tap(test.name, output.tap)
        # A test that reported bad cases says so with its exit code too: that is one failure, not two.
        if trouble and not (result.failed and not booted.spoilt):
            result.problems = trouble + result.problems
        self._judge_log(booted, test, log, result)
        result.time_s = time.monotonic() - began
        return result

    def _judge_log(self, booted: BootedGuest, test: Test, log: list[str], result: TestResult) -> None:
        """Counts what came into the log since the last judgement against `result`."""
        new = log[booted.judged_lines :]
        booted.judged_lines = len(log)
        findings = kernel_log.find_splats(new, test.expected_log)
        with self._reporting:
            self.result.kernel_log_splats += len(findings)
        for finding in findings:
            booted.spoilt = True
            result.problems.append(f"the kernel said: {finding.message}")
            booted.words.printer.comments_of_test(finding.context[:_EXCERPT_LINES])
        if test.expected_log:
            booted.spoilt = True
            if not any(test.expected_log.search(line) for line in new):
                result.problems.append(f"the kernel did not say what was expected: {test.expected_log.pattern}")

    # Tests on the host ------------------------------------------------------------------------------------------

    def _run_host_test(self, test: Test) -> None:
        words = self._words()
        printer = words.printer
        printer.begin_test(test.name)
        began = time.monotonic()
        output = LineFeed(printer)
        timeout_s = test.timeout_s * self._environment.slowness
        process = subprocess.Popen(
            [sys.executable, str(test.path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={
                **os.environ,
                "PYTHONPATH": str(REPOSITORY / "scripts"),
                "CAIRNFS_VM_KERNEL": self._environment.flavour,
                "CAIRNFS_VM_LOGS": str(self._logs),
            },
        )
        late = threading.Event()

        def end_it() -> None:
            late.set()
            os.killpg(process.pid, signal.SIGKILL)

        watchdog = threading.Timer(timeout_s, end_it)
        watchdog.start()
        try:
            assert process.stdout
            with process.stdout as said:
                while data := os.read(said.fileno(), 1 << 16):
                    output.feed(data)
            code = process.wait()
        finally:
            watchdog.cancel()
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        output.end()
        result = result_of_tap(test.name, output.tap)
        if late.is_set():
            result.problems.insert(0, f"not done after {timeout_s:.0f} s")
        elif code != 0 and not result.failed:
            result.problems.insert(0, f"its exit code was {code}")
        splats = 0
        for log in kernel_log.logs_in(self._logs, process.pid):
            findings = kernel_log.find_splats(log.read_text(errors="replace").splitlines(), test.expected_log)
            splats += len(findings)
            for finding in findings:
                result.problems.append(f"the kernel said: {finding.message} ({log.name}:{finding.line_number})")
                printer.comments_of_test(finding.context[:_EXCERPT_LINES])
        result.time_s = time.monotonic() - began
        with self._reporting:
            self.result.kernel_log_splats += splats
        self._report(result, words)
