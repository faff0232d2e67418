"""All logs read in one place, away from the widgets that show them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from echo_tui.logs.tail import Tail

LOOK_SECONDS = 0.1
QUIET_FACTOR = 4  # slower while nothing is written: nine quiet logs then cost next to nothing
QUIET_LOOKS = 20  # without a line, until it counts as quiet
SKIP_BYTES = 4 * 1024 * 1024  # waiting in one log: many times what a view keeps, so the oldest would not be seen anyway


class LogFeed:
    """Calls `on_lines(name, lines)` on the event loop with what was written to the watched files.

    All lines of one look are handed over without a pause between them, so that a reader of several logs can put them in
    order. Files are read in a thread: a disk that hangs stops no screen.
    """

    def __init__(self, on_lines: Callable[[str, list[bytes]], None], *, look_seconds: float = LOOK_SECONDS) -> None:
        self._on_lines = on_lines
        self._look_seconds = look_seconds
        self._tails: dict[str, Tail] = {}
        self._quiet_looks = 0

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._tails)

    def watch(self, name: str, path: Path | str) -> None:
        """Begins with the last lines of the file, which need not exist yet. Watching it again changes nothing."""
        known = self._tails.get(name)
        if known is not None:
            if known.path == Path(path):
                return
            known.close()
        self._tails[name] = Tail(path, skip_bytes=SKIP_BYTES)
        self._quiet_looks = 0

    def forget(self, name: str) -> None:
        tail = self._tails.pop(name, None)
        if tail is not None:
            tail.close()

    async def run(self) -> None:
        """Until cancelled; then all files are closed and forgotten."""
        try:
            while True:
                tails = list(self._tails.items())
                arrived = await asyncio.to_thread(_read, tails)
                self._quiet_looks = 0 if arrived else self._quiet_looks + 1
                for name, tail, lines in arrived:
                    if self._tails.get(name) is tail:
                        self._on_lines(name, lines)
                quiet = self._quiet_looks > QUIET_LOOKS
                await asyncio.sleep(self._look_seconds * (QUIET_FACTOR if quiet else 1))
        finally:
            for name in self.names:
                self.forget(name)


def _read(tails: list[tuple[str, Tail]]) -> list[tuple[str, Tail, list[bytes]]]:
    return [(name, tail, lines) for name, tail in tails if (lines := tail.read())]
