"""The last lines of a log, as bytes, each with a number that never changes."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import deque
from itertools import islice

from echo_tui.logs.line import stamp
from echo_tui.logs.row import searchable

KEPT_LINES = 5_000  # some 600 KB of a usual log: hours of an agent's work


class LineBuffer:
    """Lines `first` up to and without `total`. `ordered` puts lines of several logs in the order of their times."""

    def __init__(self, *, ordered: bool = False, kept: int = KEPT_LINES) -> None:
        self.ordered = ordered
        self.name_width = 0  # cells of the longest name seen; names are plain ASCII
        self._lines: deque[bytes] = deque(maxlen=kept)
        self._names: deque[str] = deque(maxlen=kept)
        self._total = 0
        self._waiting: list[tuple[bytes, bytes, str]] = []  # sorted once, when somebody looks

    @property
    def total(self) -> int:
        """Lines ever added."""
        return self._total + len(self._waiting)

    @property
    def first(self) -> int:
        self._settle()
        return self._total - len(self._lines)

    def append(self, lines: list[bytes], name: str) -> None:
        self.name_width = max(self.name_width, len(name))
        if not self.ordered:
            self._add(lines, [name] * len(lines))
            return
        at = b""
        for line in lines:
            at = stamp(line) or at  # a traceback stays below the line it belongs to
            self._waiting.append((at, line, name))
        if len(self._waiting) > (self._lines.maxlen or 0):  # nobody looks: keep it bounded all the same
            self._settle()

    def clear(self) -> None:
        self._settle()
        self._lines.clear()
        self._names.clear()

    def line(self, number: int) -> tuple[bytes, str]:
        """Raises IndexError for a line that is not kept."""
        index = number - self.first
        if index < 0:
            raise IndexError(number)
        return self._lines[index], self._names[index]

    def since(self, number: int) -> list[tuple[int, bytes, str]]:
        """The kept lines from `number` on, with their numbers."""
        start = max(number, self.first)
        skipped = start - self.first
        pairs = zip(islice(self._lines, skipped, None), islice(self._names, skipped, None), strict=True)
        return [(start + index, raw, name) for index, (raw, name) in enumerate(pairs)]

    def _settle(self) -> None:
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        waiting.sort(key=lambda entry: entry[0])  # stable: equal times stay in the order they came
        self._add([line for _, line, _ in waiting], [name for _, _, name in waiting])

    def _add(self, lines: list[bytes], names: list[str]) -> None:
        self._lines.extend(lines)
        self._names.extend(names)
        self._total += len(lines)


class Matches:
    """The numbers of the lines that hold `needle`, without regard to case; looked for when asked, each line once."""

    def __init__(self, buffer: LineBuffer, needle: str) -> None:
        self.pattern = re.compile(re.escape(needle), re.IGNORECASE)
        self._buffer = buffer
        self._numbers: list[int] = []
        self._looked_to = 0

    def numbers(self) -> list[int]:
        found = self.pattern.search
        buffer = self._buffer
        for number, raw, name in buffer.since(self._looked_to):
            if found(searchable(raw)) or (buffer.ordered and found(name)):
                self._numbers.append(number)
        self._looked_to = buffer.total
        del self._numbers[: bisect_left(self._numbers, buffer.first)]
        return self._numbers

    def after(self, number: int) -> int | None:
        """The next match below line `number`, else the first of all."""
        numbers = self.numbers()
        if not numbers:
            return None
        index = bisect_right(numbers, number)
        return numbers[index] if index < len(numbers) else numbers[0]

    def before(self, number: int) -> int | None:
        """The next match above line `number`, else the last of all."""
        numbers = self.numbers()
        if not numbers:
            return None
        return numbers[bisect_left(numbers, number) - 1]
