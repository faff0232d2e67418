"""One line of a log, told apart into its columns."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

_LINE = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.\d]*Z) ([A-Z]+) +(\S+) ?(.*)", re.DOTALL)
_STAMP = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.\d]*Z ")


@dataclass(frozen=True, slots=True)
class LogLine:
    """`at` is UTC as in the file; a line that is not ours (a traceback, a server's) has only `text`.

    `text` is as it was written, so it may hold anything: make it inert before it is shown.
    """

    at: str
    level: str
    action: str
    text: str
    name: str = ""

    @property
    def clock(self) -> str:
        """Local `HH:MM:SS`; empty where there is no valid time."""
        return _local_clock(self.at[:19])


def parse(raw: bytes, name: str = "") -> LogLine:
    """Any bytes are a line; what is not UTF-8 becomes the replacement character."""
    raw = raw.rstrip(b"\r\n")
    match = _LINE.fullmatch(raw)
    if match is None:
        return LogLine("", "", "", raw.decode("utf-8", "replace"), name)
    at, level, action, text = (part.decode("utf-8", "replace") for part in match.groups())
    return LogLine(at, level, action, text.lstrip(" "), name)


def stamp(raw: bytes) -> bytes:
    """When the line was written, for putting lines in order; empty for a line that is not ours."""
    match = _STAMP.match(raw)
    return match.group() if match else b""


@lru_cache(512)  # the lines of one second share it
def _local_clock(at: str) -> str:
    if not at:
        return ""
    try:
        return f"{datetime.fromisoformat(at + '+00:00').astimezone():%H:%M:%S}"
    except (ValueError, OverflowError):  # shaped like a time, but none: the 99th of a month
        return ""
