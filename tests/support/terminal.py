"""A program in a real pseudo-terminal: its screen is read as a person reads it, its keys are pressed as a person does.

Nothing a full-screen program needs is left out: a controlling terminal, a size, SIGWINCH when that changes, and settings
(termios, private modes) that can be compared afterwards with those before.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TypeVar

import pyte

from tests.support.eventually import eventually

KEYS = {
    "enter": "\r",
    "tab": "\t",
    "escape": "\x1b",
    "space": " ",
    "backspace": "\x7f",
    "up": "\x1b[A",
    "down": "\x1b[B",
    "ctrl+s": "\x13",
    "ctrl+p": "\x10",
    "ctrl+q": "\x11",
}
T = TypeVar("T")
_UNKNOWN_TO_PYTE = re.compile(rb"\x1b\[[<>=][0-9;]*[a-zA-Z]")  # keyboard protocols, which it would print
_KEYBOARD_ASKED = re.compile(rb"\x1b\[>\d+u")
_UNFINISHED = re.compile(rb"\x1b(\[[^a-zA-Z]*)?\Z")


def open_in_terminal(
    command: Sequence[str], *, columns: int, rows: int, environment: Mapping[str, str]
) -> tuple[subprocess.Popen[bytes], int, int]:
    """The process, and both ends of its terminal: what it prints is read from the first, its settings from the second."""
    ours, theirs = pty.openpty()
    _set_size(theirs, columns, rows)
    kept = {name: value for name, value in environment.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        command,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**kept, "TERM": "xterm-256color", "COLORTERM": "truecolor", "LC_ALL": "C.UTF-8"},
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # without it the kernel sends no SIGWINCH and no SIGHUP
    )
    return process, ours, theirs


class Terminal:
    """A context manager. Whatever still runs in it at the end is killed; `screen_text` works afterwards too."""

    def __init__(
        self, command: Sequence[str], *, columns: int = 120, rows: int = 36, environment: Mapping[str, str] = os.environ
    ) -> None:
        self._command, self._columns, self._rows, self._environment = command, columns, rows, environment
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._modes_before = set(self._screen.mode)
        self._pending = b""  # read, not yet on the screen
        self._printed = bytearray()
        self._lock = threading.Lock()
        self._closing = threading.Event()

    def __enter__(self) -> Terminal:
        self.process, self._ours, self._theirs = open_in_terminal(
            self._command, columns=self._columns, rows=self._rows, environment=self._environment
        )
        self._settings_before = termios.tcgetattr(self._theirs)
        self._reader = threading.Thread(target=self._read, name="terminal", daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            print(f"the screen at the end:\n{self.screen_text()}")  # shown by pytest beside the failure
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._closing.set()
        self._reader.join()
        os.close(self._ours)
        os.close(self._theirs)

    # -- what is seen ---------------------------------------------------------------------------------------------------

    def screen_text(self) -> str:
        """All rows, without the blanks at their ends."""
        return "\n".join(self.rows())

    def rows(self) -> list[str]:
        with self._lock:
            self._paint()
            return [line.rstrip() for line in self._screen.display]

    def row_of_cursor(self) -> str:
        with self._lock:
            self._paint()
            return self._screen.display[self._screen.cursor.y].rstrip()

    async def wait_for(self, text: str, timeout: float = 10.0) -> str:
        """Until `text` stands on the screen, in one row; returns that row. Raises AssertionError with the whole screen."""
        return await self.until(
            lambda: next((row for row in self.rows() if text in row), ""), timeout, f"{text!r} on the screen"
        )

    async def wait_gone(self, text: str, timeout: float = 10.0) -> None:
        await self.until(lambda: text not in self.screen_text(), timeout, f"{text!r} gone from the screen")

    async def wait_printed(self, text: str, timeout: float = 10.0) -> None:
        """Until `text` was printed in one piece, also when it stood on the screen for a moment only."""
        await self.until(lambda: text.encode() in self._printed, timeout, f"{text!r} on the screen for a moment")

    async def until(self, check: Callable[[], T], timeout: float, what: str) -> T:
        """Like `eventually`, but a failure shows the screen."""
        try:
            return await eventually(check, timeout, what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.screen_text()}") from None

    # -- what is done ---------------------------------------------------------------------------------------------------

    def press(self, *keys: str) -> None:
        """Single characters, or names like `ctrl+s` and `escape`."""
        for key in keys:
            self.type(KEYS.get(key, key))

    def type(self, text: str) -> None:
        rest = text.encode()
        while rest:  # a terminal takes a few kilobytes at once
            select.select([], [self._ours], [])
            rest = rest[os.write(self._ours, rest[:1024]) :]

    def paste(self, text: str) -> None:
        """As terminals that know bracketed paste hand it over."""
        self.type(f"\x1b[200~{text}\x1b[201~")

    def resize(self, columns: int, rows: int) -> None:
        """The kernel tells the program with SIGWINCH."""
        with self._lock:
            self._paint()
            self._screen.resize(rows, columns)
        _set_size(self._theirs, columns, rows)

    def send_signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def exit_code(self, timeout: float = 20.0) -> int:
        await self.until(lambda: self.process.poll() is not None, timeout, "the program ends")
        assert self.process.returncode is not None
        return self.process.returncode

    def in_order(self) -> bool:
        """Whether a shell would find the terminal as it was: line editing, echo, cursor, screen, mouse, keyboard."""
        with self._lock:
            self._paint()
            same_modes = set(self._screen.mode) == self._modes_before
            keyboard = len(_KEYBOARD_ASKED.findall(self._printed)) == self._printed.count(b"\x1b[<u")
        return same_modes and keyboard and termios.tcgetattr(self._theirs) == self._settings_before

    # -- the pieces -----------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        """Always, or the program would wait for its terminal. Nothing is parsed here: that is done when somebody looks."""
        while not self._closing.is_set():
            if not select.select([self._ours], [], [], 0.1)[0]:
                continue
            try:
                chunk = os.read(self._ours, 65536)
            except OSError:  # nobody has the other end open
                return
            with self._lock:
                self._pending += chunk
                self._printed += chunk

    def _paint(self) -> None:
        whole = self._pending
        unfinished = _UNFINISHED.search(whole)
        end = unfinished.start() if unfinished else len(whole)
        self._pending = whole[end:]
        self._stream.feed(_UNKNOWN_TO_PYTE.sub(b"", whole[:end]))


def _set_size(terminal: int, columns: int, rows: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
