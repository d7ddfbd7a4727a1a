"""scripts/vm: the one entry to everything that happens in a virtual machine."""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import signal
import sys
import time
import types
from pathlib import Path
from typing import BinaryIO

from vmlib import judge, kernel_log, machines, shell
from vmlib.discovery import find_tests
from vmlib.disks import Disk
from vmlib.environment import KERNEL_FLAVOURS, REPOSITORY, Environment, VmError
from vmlib.guest import GuestError, GuestTimeout, OutputSink, RequestRefused
from vmlib.initramfs import TESTS_FOLDER
from vmlib.machines import MachineConfig
from vmlib.report import TapPrinter
from vmlib.runner import Runner

_KEPT_LOGS = 10
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_TIMEOUT = 124
EXIT_GUEST = 125
EXIT_KERNEL_LOG = 126


def _parser() -> argparse.ArgumentParser:
    what = "Runs tests, programs and shells in a virtual machine."
    parser = argparse.ArgumentParser(prog="scripts/vm", description=what)
    commands = parser.add_subparsers(dest="command", required=True)

    test = commands.add_parser("test", help="run the tests of tests/vm, or those named")
    _add_kernel(test)
    test.add_argument("names", nargs="*", metavar="NAME")
    test.add_argument("--list", action="store_true", help="only say which tests there are")
    test.add_argument("--json", type=Path, metavar="FILE", help="also write the results to FILE")
    test.add_argument("--logs", type=Path, metavar="FOLDER", help="where the consoles' logs go")
    beside = "how many tests run at a time, each guest's one after the other (default 1)"
    test.add_argument("--jobs", type=int, default=1, metavar="N", help=beside)
    test.add_argument("-v", "--verbose", action="store_true", help="show the kernel's log of every guest at its end")
    test.add_argument("--tests", type=Path, default=TESTS_FOLDER, metavar="FOLDER", help=argparse.SUPPRESS)

    run = commands.add_parser("run", help="run one program in a lean guest, with its exit code")
    _add_kernel(run)
    _add_machine(run)
    run.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="limit for it (default 60)")
    run.add_argument("-v", "--verbose", action="store_true", help="show the kernel's log at the end")
    run.add_argument("--load-module", action="store_true", help="load cairnfs.ko first")
    run.add_argument("program", nargs="+", metavar="PROGRAM", help="a program of the guest and its arguments, after --")

    interactive = commands.add_parser("shell", help="a shell in a guest with the module loaded and a scratch disk mounted")
    _add_kernel(interactive)
    _add_machine(interactive)

    whole = commands.add_parser("judge", help="judge the logs of all guests of a run")
    whole.add_argument("logs", type=Path, metavar="FOLDER", help="where `test --logs` or CAIRNFS_VM_LOGS= put them")

    commands.add_parser("selftest", help="prove that the runner catches every kind of failure")
    return parser


def _add_kernel(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kernel", choices=KERNEL_FLAVOURS, default="fast", help="which kernel (default: fast)")


def _add_machine(parser: argparse.ArgumentParser) -> None:
    specs = "blank:SIZE, file:PATH, read-only:PATH or nbd:SOCKET[,EXPORT]; may be repeated"
    parser.add_argument("--disk", action="append", default=[], metavar="SPEC", help=specs)
    parser.add_argument("--memory", type=int, default=1024, metavar="MIB", help="memory of the guest (default 1024)")
    parser.add_argument("--cpus", type=int, metavar="N", help="processors of the guest (default 2; debug kernel: 1)")
    parser.add_argument("--network", action="store_true", help="a card on a user network; the host is 10.0.2.2 there")
    parser.add_argument("--modules", default="", metavar="NAME,...", help="modules of the kernel's own to bring along")
    brought = "a program of the host to bring along, with its libraries; may be repeated"
    parser.add_argument(
        "--program", action="append", default=[], type=Path, dest="programs", metavar="PATH", help=brought
    )


def _machine(arguments: argparse.Namespace) -> MachineConfig:
    missing = [str(path) for path in arguments.programs if not path.is_file()]
    if missing:
        raise VmError(f"no such program: {', '.join(missing)}")
    return MachineConfig(
        disks=tuple(Disk.parse(text) for text in arguments.disk),
        memory_mib=arguments.memory,
        cpus=arguments.cpus,
        network=arguments.network,
        kernel_modules=tuple(filter(None, arguments.modules.split(","))),
        host_programs=tuple(program.absolute() for program in arguments.programs),
    )


def _log_folder(wish: Path | None) -> Path:
    """A folder for the logs of this run; older ones are removed, but for the last few."""
    if wish:
        wish.mkdir(parents=True, exist_ok=True)
        return wish
    root = REPOSITORY / "build/vm-logs"
    root.mkdir(parents=True, exist_ok=True)
    for old in sorted(root.iterdir())[:-_KEPT_LOGS]:
        shutil.rmtree(old, ignore_errors=True)
    folder = root / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    folder.mkdir()
    return folder


def _test(arguments: argparse.Namespace) -> int:
    tests = find_tests(arguments.tests.resolve(), arguments.names)
    if arguments.list:
        for test in tests:
            print(test.name)
        return 0
    environment = Environment.load(arguments.kernel)
    logs = _log_folder(arguments.logs)
    printer = TapPrinter()
    runner = Runner(environment, printer, logs.resolve(), arguments.jobs)
    result = runner.run(tests)
    if arguments.verbose:
        for console in sorted(logs.glob("console-*.log")):
            printer.comment(console.read_text(errors="replace"))
    if result.boots:
        printer.comment(f"{result.boots} boots, {result.boot_time_s / result.boots:.1f} s each; logs: {logs}")
    if result.least_stack_left_bytes is not None:
        printer.comment(f"least kernel stack left: {result.least_stack_left_bytes} bytes")
    if arguments.json:
        result.write_json(arguments.json)
    print(result.closing_line(), flush=True)
    return EXIT_FAILED if result.failed else 0


def _run(arguments: argparse.Namespace) -> int:
    environment = Environment.load(arguments.kernel)
    config = dataclasses.replace(_machine(arguments), cairnfs_module=arguments.load_module)
    guest = machines.make_guest(environment, config)
    try:
        with guest:
            if arguments.load_module:
                guest.run(["modprobe", "cairnfs"], timeout_s=60, check=True)
            program = guest.start_program(
                arguments.program,
                environment=machines.test_environment(environment, config),
                on_output=_writer(sys.stdout.buffer),
                on_error_output=_writer(sys.stderr.buffer),
            )
            completed = program.wait(arguments.timeout * environment.slowness)
            guest.power_off(timeout_s=30 * environment.slowness)
            findings = kernel_log.find_splats(guest.log_lines())
            if arguments.verbose:
                print(guest.console.read_text(errors="replace"), file=sys.stderr)
    except RequestRefused as error:
        raise VmError(str(error)) from error
    except GuestError as error:
        print("\n".join(error.console_tail), file=sys.stderr)
        print(f"scripts/vm: {error}", file=sys.stderr)
        return EXIT_TIMEOUT if isinstance(error, GuestTimeout) else EXIT_GUEST
    for finding in findings:
        print("\n".join(finding.context), file=sys.stderr)
        print(f"scripts/vm: the kernel said: {finding.message}", file=sys.stderr)
    return EXIT_KERNEL_LOG if findings else completed.exit_code


def _writer(stream: BinaryIO) -> OutputSink:
    def write(data: bytes) -> None:
        stream.write(data)
        stream.flush()

    return write


def _judge(arguments: argparse.Namespace) -> int:
    verdict = judge.judge(arguments.logs)
    print(verdict, flush=True)
    return 0 if verdict.good else EXIT_FAILED


def _selftest() -> int:
    from vmlib import selftest  # noqa: PLC0415 (unittest is not needed for anything else)

    return selftest.main()


def _on_terminate(_number: int, _frame: types.FrameType | None) -> None:
    raise SystemExit(128 + signal.SIGTERM)


def main() -> int:
    """Runs one command; the exit code is its answer."""
    signal.signal(signal.SIGTERM, _on_terminate)
    arguments = _parser().parse_args()
    try:
        match arguments.command:
            case "test":
                return _test(arguments)
            case "run":
                return _run(arguments)
            case "shell":
                return shell.run(Environment.load(arguments.kernel), _machine(arguments))
            case "judge":
                return _judge(arguments)
            case _:
                return _selftest()
    except VmError as error:
        print(f"scripts/vm: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
