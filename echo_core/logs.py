"""The log line every process of the organisation writes, and the bounded file it goes to."""

from __future__ import annotations

import os
import re
import sys
import time
import unicodedata
from datetime import datetime
from functools import lru_cache
from pathlib import Path

ROTATE_BYTES = 8 * 1024 * 1024  # two files of this size hold days of an agent's work, and never fill a disk
LINE_CHARACTERS = 4_000  # a line nobody could read anyway; keeps a hostile text from flooding the file

_LEVEL_WIDTH = 5
_ACTION_WIDTH = 8
_UNUSUAL = re.compile(r"[^\x20-\x7e]")
_JOINERS = "\u200c\u200d"  # needed by Persian, Indic scripts and emoji; they move nothing on a screen
_INERT_MARKS = 4  # combining marks on one character: more than any language stacks
_MARK_RANGES = r"\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
_MARKS = re.compile(f"[{_MARK_RANGES}]{{{_INERT_MARKS + 1},}}")


def escaped(text: str) -> str:
    """`text` as one inert line: control, bidi and invisible characters are written out, floods of marks are cut."""
    if text.isascii() and text.isprintable():
        return text
    return _MARKS.sub(lambda match: match.group()[:_INERT_MARKS], _UNUSUAL.sub(_escape, text))


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    category = unicodedata.category(character)
    if character in _JOINERS or category not in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return character
    if character in "\n\t\r":
        return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}[character]
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def log_line(level: str, action: str, text: str, at: datetime | None = None) -> str:
    """`2026-11-24T14:02:29.123Z INFO  recv     #42 request from operator: Subject`, without the line end."""
    if at is None:
        seconds, milliseconds = divmod(time.time_ns() // 1_000_000, 1000)
    else:
        seconds, milliseconds = int(at.replace(microsecond=0).timestamp()), at.microsecond // 1000
    stamp = f"{_to_the_second(seconds)}.{milliseconds:03d}Z"
    if len(text) > LINE_CHARACTERS:
        text = text[:LINE_CHARACTERS] + "…"
    return f"{stamp} {level:<{_LEVEL_WIDTH}} {action:<{_ACTION_WIDTH}} {escaped(text)}".rstrip()


@lru_cache(maxsize=4)
def _to_the_second(seconds: int) -> str:
    """Written once a second: an agent that catches up logs thousands of lines in one."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


class Log:
    """A process's log: each line is written whole and at once, and a full disk or an unwritable file stops nothing.

    `path` None writes to no file; `echo` also prints. `lost` counts the lines that could not be written.
    """

    def __init__(self, path: Path | None, *, echo: bool = False, rotate_bytes: int = ROTATE_BYTES) -> None:
        self.path = path
        self.echo = echo
        self.lost = 0
        self._rotate_bytes = rotate_bytes
        self._file: int | None = None
        self._size = 0

    def info(self, action: str, text: str) -> None:
        self.write("INFO", action, text)

    def warn(self, action: str, text: str) -> None:
        self.write("WARN", action, text)

    def error(self, action: str, text: str) -> None:
        self.write("ERROR", action, text)

    def write(self, level: str, action: str, text: str) -> None:
        line = log_line(level, action, text) + "\n"
        if self.echo:
            self._print(line)
        if self.path is not None:
            try:
                self._append(line.encode("utf-8", "backslashreplace"))
            except OSError:
                # The next line tries again from the beginning: the disk may have room, or the folder be back.
                self.lost += 1
                self.close()

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            try:
                os.close(file)
            except OSError:
                self.lost += 1

    def _append(self, data: bytes) -> None:
        assert self.path is not None
        if self._file is not None and self._size + len(data) > self._rotate_bytes:
            self.close()
            os.replace(self.path, self.path.with_name(self.path.name + ".1"))
        if self._file is None:
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._size = os.fstat(self._file).st_size
        written = os.write(self._file, data)
        self._size += written
        if written < len(data):  # the disk filled up in the middle: end the line, so that the next one stands alone
            self.lost += 1
            os.write(self._file, b"\n")

    def _print(self, line: str) -> None:
        try:
            encoding = sys.stdout.encoding or "utf-8"
            sys.stdout.write(line.encode(encoding, "backslashreplace").decode(encoding))
            sys.stdout.flush()
        except (OSError, ValueError):  # the reader of our output is gone
            self.echo = False
