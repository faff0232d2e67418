"""`echo-tui logs`: the logs of all processes as one, in the order things happened."""

from __future__ import annotations

import asyncio
import os
import re
from collections import deque
from dataclasses import dataclass
from heapq import merge
from pathlib import Path
from typing import Annotated

import typer

from echo_core.errors import UnknownRole
from echo_core.settings import Settings
from echo_core.text import inert
from echo_tui.cli import options
from echo_tui.cli.output import say
from echo_tui.cli.session import run_async

LOOK_SECONDS = 0.2
TAIL_BYTES = 1024 * 1024  # from the end of each file, for the last lines
READ_BYTES = 4 * 1024 * 1024  # at once while following
_LINE = re.compile(r"(?P<at>\d{4}-\d\d-\d\dT\S+Z) (?P<level>[A-Z]+) +(?P<action>\S+) *(?P<text>.*)")


@dataclass(frozen=True, slots=True)
class LogLine:
    """`at` orders; a line that is not ours (a server's) has the time of the line before it."""

    at: str
    name: str
    level: str
    action: str
    text: str

    def shown(self, width: int) -> str:
        return f"{self.at} {self.name:<{width}} {self.level:<5} {self.action:<8} {inert(self.text)}".rstrip()

    def value(self) -> dict[str, str]:
        return {"at": self.at, "name": self.name, "level": self.level, "action": self.action, "text": self.text}


def logs(
    settings: Settings,
    names: Annotated[list[str] | None, typer.Argument(metavar="[ROLE]...", help="Only these; also conductor.")] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as lines are written.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", metavar="N", help="The last N (200).", min=0)] = 200,
    json: options.Json = False,
) -> int:
    """What the processes of the data directory logged. Times are UTC."""
    wanted = tuple(names or ())
    present = {path.stem: path for path in _files(settings)}
    if wanted and not follow:
        _check(wanted, present, settings)
    tails = [_tail(path, lines) for name, path in present.items() if _meant(name, wanted)]
    width = max((len(name) for name in present if _meant(name, wanted)), default=8)
    for line in deque(merge(*(tail.lines for tail in tails), key=lambda line: line.at), maxlen=lines):
        _print(line, width, json)
    if not tails and not follow:
        say("[]") if json else say("no logs yet; `echo-tui up` starts the organisation")
    if not follow:
        return 0
    return run_async(_follow(settings, wanted, {tail.path: tail for tail in tails}, width, json))


def _check(wanted: tuple[str, ...], present: dict[str, Path], settings: Settings) -> None:
    from echo_core.organisation import load_organisation

    known = {*present, *load_organisation(settings.organisation).roles, "conductor", "supervisor"}
    for name in wanted:
        if not any(_meant(each, (name,)) for each in known):
            raise UnknownRole(f"no log of {name!r}; there are {', '.join(sorted(known))}")


def _meant(name: str, wanted: tuple[str, ...]) -> bool:
    """A role means all its instances. Without a choice: everything but the servers' own logs."""
    role = name.rpartition("-")[0] or name
    if not wanted:
        return name not in ("postgres", "valkey", "echo-tui")
    return name in wanted or (role in wanted and name.removeprefix(f"{role}-").isdigit())


def _files(settings: Settings) -> list[Path]:
    return sorted(settings.logs_dir.glob("*.log"))


@dataclass(slots=True)
class Tail:
    """How far a file was read: which file (it is replaced when it grows too large) and up to where."""

    path: Path
    inode: int
    position: int
    lines: list[LogLine]
    _at: str = ""

    def read(self) -> list[LogLine]:
        """Whole lines written since the last call."""
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino != self.inode or status.st_size < self.position:
                    self.inode, self.position = status.st_ino, 0
                file.seek(self.position)
                data = file.read(READ_BYTES)
        except OSError:  # just being replaced
            return []
        whole, end, _ = data.rpartition(b"\n")
        self.position += len(whole) + len(end)
        return [self._line(line) for line in whole.decode("utf-8", "replace").split("\n")] if end else []

    def _line(self, text: str) -> LogLine:
        match = _LINE.match(text)
        if match is None:
            return LogLine(self._at, self.path.stem, "", "", text)
        self._at = match["at"]
        return LogLine(match["at"], self.path.stem, match["level"], match["action"], match["text"])


def _tail(path: Path, lines: int) -> Tail:
    """The last lines of a file, also of the one before it when it was just replaced."""
    tail = Tail(path, 0, 0, [])
    found: list[LogLine] = []
    for file in (path.with_name(path.name + ".1"), path):
        try:
            status = file.stat()
        except OSError:
            continue
        part = Tail(file, status.st_ino, max(0, status.st_size - TAIL_BYTES), [])
        cut = part.position > 0
        read = [LogLine(line.at, path.stem, line.level, line.action, line.text) for line in part.read()]
        found += read[1:] if cut else read
        if file == path:
            tail.inode, tail.position = part.inode, part.position
    tail.lines = found[-lines:] if lines else []
    return tail


async def _follow(settings: Settings, wanted: tuple[str, ...], tails: dict[Path, Tail], width: int, as_json: bool) -> int:
    while True:
        for path in _files(settings):
            if _meant(path.stem, wanted) and path not in tails:
                tails[path] = Tail(path, 0, 0, [])
                width = max(width, len(path.stem))
        for line in sorted((line for tail in tails.values() for line in tail.read()), key=lambda line: line.at):
            _print(line, width, as_json, flush=True)
        await asyncio.sleep(LOOK_SECONDS)


def _print(line: LogLine, width: int, as_json: bool, *, flush: bool = False) -> None:
    """JSON: one object a line, so that it can be followed too."""
    import json
    import sys

    sys.stdout.write((json.dumps(line.value()) if as_json else line.shown(width)) + "\n")
    if flush:
        sys.stdout.flush()
