"""Panics in compiled objects, told by the symbols they refer to.

A panic in Rust is a call of a function of the core library that does not return. An object that refers to none of
them cannot panic, whatever its sources look like; the reverse holds too, so a finding names the function it is in.
Overflow checks are on in all objects of the module (Kbuild), so an unchecked addition shows as a panic as well.

Usage: objects.py ALLOWED OBJECT...   prints `OBJECT<tab>FUNCTION<tab>SYMBOL` for each reference to a symbol of the core
library that is not on the list ALLOWED, or is a panic, and exits with 1 if there is any; 2 if the list is at fault.
"""

import re
import subprocess
import sys

# Whatever the list says, these never pass.
PANIC = re.compile(r"panic|_fail(ed)?\b|build_error|\bunreachable_display")
# Undefined Rust symbols of these crates are not the core library's; the kernel's own panics are caught above.
OTHER_CRATES = re.compile(r"^<?(&mut |&|\*mut |\*const )*(kernel|cairnfs_core|cairnfs_bindings|cairnfs_linux|cairnfs_fs)::")

# Instances of these crates' generic functions lie in our objects; what matters is who of ours calls them.
LIBRARIES = re.compile(r"^<?(&mut |&|\*mut |\*const )*(core|kernel)::")


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def demangle(names):
    names = sorted(names)
    if not names:
        return {}
    result = subprocess.run(["c++filt"], input="\n".join(names), check=True, capture_output=True, text=True).stdout
    # The demangler adds each crate's hash in brackets, which says which compiler built it.
    return dict(zip(names, re.sub(r"\[[0-9a-f]{8,16}\]", "", result).splitlines()))


def undefined_rust_symbols(path):
    lines = run("nm", "--undefined-only", "--format=just-symbols", path).split()
    return demangle({name for name in lines if name.startswith("_R")})


def calls(path):
    """For each function of the object the symbols that its code refers to: calls, jumps and addresses taken."""
    function_line = re.compile(r"^[0-9a-f]+ <(\S+)>:$")
    relocation = re.compile(r"^\s+[0-9a-f]+: R_\w+\s+(\S+?)([-+]0x[0-9a-f]+)?$")
    # A call inside one section needs no relocation.
    branch = re.compile(r"\s(?:call|j[a-z]+)\s+[0-9a-f]+ <([^>+]+)(?:\+0x[0-9a-f]+)?>$")
    found = {}
    function = None
    for line in run("objdump", "--disassemble", "--reloc", "--no-show-raw-insn", path).splitlines():
        if match := function_line.match(line):
            function = found.setdefault(match[1], set())
        elif function is not None and (match := relocation.match(line) or branch.search(line)):
            function.add(match[1])
    return found


def own_callers(symbol, callers, names):
    """The nearest functions outside the libraries from which `symbol` is reached, through instances of generic ones."""
    own, seen, waiting = set(), {symbol}, [symbol]
    while waiting:
        for caller in callers.get(waiting.pop(), set()) - seen:
            seen.add(caller)
            if LIBRARIES.match(names[caller]):
                waiting.append(caller)
            else:
                own.add(names[caller])
    return sorted(own) or ["(no function of this crate)"]


def read_allowed(path):
    with open(path, encoding="utf-8") as lines:
        names = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    for name in names:
        if PANIC.search(name):
            print(f"{path}: {name}: a panic is never allowed")
            sys.exit(2)
    return re.compile("|".join(re.escape(name).replace(r"\*", ".*") for name in names))


def main(allowed_path, paths):
    allowed = read_allowed(allowed_path)
    bad_references = 0
    for path in paths:
        undefined = undefined_rust_symbols(path)
        bad = {
            symbol: name
            for symbol, name in undefined.items()
            if PANIC.search(name)
            or not (OTHER_CRATES.match(name) or allowed.fullmatch(name))
        }
        if not bad:
            continue
        called = calls(path)
        callers = {}
        for caller, symbols in called.items():
            for symbol in symbols:
                callers.setdefault(symbol, set()).add(caller)
        names = demangle(set(called))
        for symbol, name in sorted(bad.items(), key=lambda item: item[1]):
            for caller in own_callers(symbol, callers, names):
                print(f"{path.split('/')[-1]}\t{caller}\t{name}")
        bad_references += len(bad)
    return 1 if bad_references else 0


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: objects.py ALLOWED OBJECT...")
    sys.exit(main(sys.argv[1], sys.argv[2:]))
