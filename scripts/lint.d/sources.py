"""Rules on the text of the sources that no compiler knows: layers, unsafe code, unfinished work.

The layers are fenced by the compiler as far as it can (Kbuild); the rest is here: the `kernel` crate's own bindings
can be named by whoever has the crate, and every crate in a kernel module has it.

Usage: sources.py REPOSITORY. Prints what is wrong, one finding a line, and exits with 1 if there is any.
"""

import ast
import io
import pathlib
import re
import sys
import tokenize

SKIPPED_FOLDERS = {".git", "build", "target", "__pycache__", "proptest-regressions"}
TEXT_SUFFIXES = {".rs", ".py", ".sh", ".md", ".toml", ".c", ".h", ".config", ".txt", ""}
LONG_FILE_LINES = 700

# What a stripped Rust source must not contain, by folder: (folder, files excepted, pattern, what is wrong).
RUST_RULES = [
    ("rust/core", {"rust/core/memory.rs"}, r"\bkernel::", "core names a kernel item outside memory.rs"),
    ("rust/core", {"rust/core/memory.rs", "rust/core/cairnfs_core.rs"}, r"\bCONFIG_\w+",
     "core differs between kernel and user space outside memory.rs"),
    ("rust/core", set(), r"\bcairnfs_(linux|bindings|fs)\b", "core names another layer"),
    ("rust/fs", set(), r"\bcairnfs_bindings\b|\bkernel::bindings\b|\bbindings::", "fs names C bindings"),
    ("rust/fs", set(), r"\*(mut|const)\s+\w", "fs has a raw pointer"),
    ("rust/linux", set(), r"\bcairnfs_fs\b", "linux names the layer above it"),
]
# What a crate's root must say: (file, text).
REQUIRED = [
    ("rust/core/cairnfs_core.rs", "#![forbid(unsafe_code)]"),
    ("rust/fs/cairnfs_fs.rs", "#![deny(unsafe_code)]"),
] + [
    (root, f"clippy::{lint}")
    for root in ("rust/core/cairnfs_core.rs", "rust/fs/cairnfs_fs.rs")
    for lint in ("indexing_slicing", "arithmetic_side_effects", "unwrap_used", "expect_used", "panic")
]
# The words are put together here, so that this file does not find itself.
_MARK = "(" + "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X"]) + ")"
UNFINISHED = re.compile(rf"(//[/!]?|#|\*|--)\s*{_MARK}\b|\b{_MARK}[:(]|\b(to" + "do|unimple" + r"mented)!")
MACHINE_PATH = re.compile(r"(?<![\w.$}~/-])/(ro" + "ot|wo" + r"rk|home/\w+)/\w")

RUST_TOKENS = re.compile(
    r"""//[^\n]*|/\*.*?\*/|b?r(?P<hashes>\#*)".*?"(?P=hashes)|b?"(?:\\.|[^"\\])*"|b?'(?:\\.[^']*|[^'\\])'""",
    re.DOTALL,
)


def strip_rust(text):
    """The source without comments, strings and character literals, line numbers kept."""
    return RUST_TOKENS.sub(lambda match: "\n" * match.group().count("\n") or " ", text)


def source_files(repository):
    for path in sorted(repository.rglob("*")):
        parts = path.relative_to(repository).parts
        if path.is_file() and not path.is_symlink() and not SKIPPED_FOLDERS.intersection(parts):
            yield path, "/".join(parts)


def matches(pattern, text):
    for match in re.finditer(pattern, text):
        yield text.count("\n", 0, match.start()) + 1, match.group()


class Findings:
    def __init__(self):
        self.count = 0

    def add(self, name, line, what):
        self.count += 1
        print(f"{name}:{line}: {what}")


def allowed_unsafe_files(repository):
    path = repository / "scripts/lint.d/allowed-unsafe.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    return {line.split()[0] for line in lines if line.strip() and not line.startswith("#")}


def check_rust(name, text, allowed_unsafe, findings):
    code = strip_rust(text)
    if not name.startswith("rust/linux/") and name not in allowed_unsafe:
        for line, _ in matches(r"\bunsafe\b", code):
            findings.add(name, line, "unsafe code outside rust/linux")
    for folder, excepted, pattern, what in RUST_RULES:
        if name.startswith(folder + "/") and name not in excepted:
            for line, found in matches(pattern, code):
                findings.add(name, line, f"{what}: {found}")
    if name.endswith("/mod.rs"):
        findings.add(name, 1, "a module is foo.rs with foo/part.rs, never foo/mod.rs")
    if name.startswith("rust/") and not text.startswith("// SPDX-License-Identifier: GPL-2.0\n"):
        findings.add(name, 1, "the first line is not the licence identifier")


def without_python_strings(text):
    """Only the comments of a Python source, on their lines: TAP has a directive that reads like unfinished work."""
    lines = [""] * (text.count("\n") + 2)
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                lines[token.start[0] - 1] = token.string
    except (tokenize.TokenError, SyntaxError):
        return text
    return "\n".join(lines)


def check_any(name, text, findings):
    for line, found in matches(UNFINISHED, without_python_strings(text) if name.endswith(".py") else text):
        findings.add(name, line, f"unfinished work: {found}")
    for line, found in matches(MACHINE_PATH, text):
        findings.add(name, line, f"a path of one machine: {found}")


def main(repository):
    repository = pathlib.Path(repository)
    findings = Findings()
    allowed_unsafe = allowed_unsafe_files(repository)
    for name in allowed_unsafe:
        if not (repository / name).exists():
            findings.add("scripts/lint.d/allowed-unsafe.txt", 1, f"{name} does not exist")
    for name, text in REQUIRED:
        path = repository / name
        if not path.exists() or text not in path.read_text():
            findings.add(name, 1, f"does not say {text}")
    files = 0
    for path, name in source_files(repository):
        if path.suffix not in TEXT_SUFFIXES or name.endswith(".lock"):
            continue
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        files += 1
        check_any(name, text, findings)
        if path.suffix == ".rs":
            # What lies under lint.d is wrong on purpose: the self-test compiles it.
            if not name.startswith("scripts/lint.d/"):
                check_rust(name, text, allowed_unsafe, findings)
        elif path.suffix == ".py" or text.startswith("#!/usr/bin/env python3"):
            try:
                ast.parse(text)
            except SyntaxError as error:
                findings.add(name, error.lineno, f"not Python: {error.msg}")
        lines = text.count("\n")
        if lines > LONG_FILE_LINES and path.suffix != ".md":
            print(f"warning: {name} has {lines} lines (more than {LONG_FILE_LINES}: time to split it)")
    print(f"{files} files read")
    return 1 if findings.count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
