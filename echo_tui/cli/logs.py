"""`echo-tui logs`: the logs of all processes as one, in the order things happened."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
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
from echo_tui.logs.line import LogLine, parse
from echo_tui.logs.tail import Tail

LOOK_SECONDS = 0.2
TAIL_BYTES = 1024 * 1024  # from the end of each file, for the last lines


def logs(
    settings: Settings,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="ROLE", help="Only these; also conductor, supervisor.")
    ] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as lines are written.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", metavar="N", help="The last N (200).", min=0)] = 200,
    json: options.Json = False,
) -> int:
    """What the processes of the data directory logged, in the order it happened. Times are UTC."""
    wanted = tuple(names or ())
    present = {path.stem: path for path in _files(settings)}
    if wanted and not follow:
        _check(wanted, present, settings)
    readers = {path: _Reader(path, TAIL_BYTES) for name, path in present.items() if _meant(name, wanted)}
    width = max((len(reader.name) for reader in readers.values()), default=8)
    for line in deque(_in_order(readers.values()), maxlen=lines):
        _print(line, width, json)
    if not readers and not follow:
        say("[]") if json else say("no logs yet; `echo-tui up` starts the organisation")
    if not follow:
        for reader in readers.values():
            reader.close()
        return 0
    return run_async(_follow(settings, wanted, readers, width, json))


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


class _Reader:
    """One log. A line that is not ours (a server's) has the time of the line before it, so that it stays below it."""

    def __init__(self, path: Path, start_bytes: int | None) -> None:
        self.name = path.stem
        self._tail = Tail(path, start_bytes)
        self._at = ""

    def read(self) -> list[LogLine]:
        """Everything written since the last call, in the order of the file."""
        raw = self._tail.read()
        while self._tail.behind:
            raw += self._tail.read()
        return [self._line(line) for line in raw]

    def close(self) -> None:
        self._tail.close()

    def _line(self, raw: bytes) -> LogLine:
        line = parse(raw, self.name)
        if not line.at:
            return replace(line, at=self._at)
        self._at = line.at
        return line


async def _follow(
    settings: Settings, wanted: tuple[str, ...], readers: dict[Path, _Reader], width: int, as_json: bool
) -> int:
    while True:
        for path in _files(settings):
            if _meant(path.stem, wanted) and path not in readers:
                readers[path] = _Reader(path, None)
                width = max(width, len(path.stem))
        for line in _in_order(readers.values()):
            _print(line, width, as_json, flush=True)
        await asyncio.sleep(LOOK_SECONDS)


def _in_order(readers: Iterable[_Reader]) -> Iterator[LogLine]:
    return merge(*[reader.read() for reader in readers], key=lambda line: line.at)


def _shown(line: LogLine, width: int) -> str:
    return f"{line.at} {line.name:<{width}} {line.level:<5} {line.action:<8} {inert(line.text)}".rstrip()


def _value(line: LogLine) -> dict[str, str]:
    return {"at": line.at, "name": line.name, "level": line.level, "action": line.action, "text": line.text}


def _print(line: LogLine, width: int, as_json: bool, *, flush: bool = False) -> None:
    """JSON: one object a line, so that it can be followed too."""
    import json
    import sys

    sys.stdout.write((json.dumps(_value(line)) if as_json else _shown(line, width)) + "\n")
    if flush:
        sys.stdout.flush()
