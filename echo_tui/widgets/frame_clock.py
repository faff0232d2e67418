"""One clock for everything that changes faster than an eye follows."""

from __future__ import annotations

from time import monotonic
from typing import Any, ClassVar, Protocol
from weakref import WeakKeyDictionary

from textual.app import App

FRAME_SECONDS = 1 / 15  # smooth enough for reading logs; every frame more costs its whole paint
BACKLOG_WRITES = 6  # waiting for the terminal: a frame is two or three writes, so two frames are on their way


class Painted(Protocol):
    def commit_frame(self) -> None:
        """Take over what arrived since the last frame, and ask for a repaint of it."""


class FrameClock:
    """Collects the widgets that have something new and lets all of them repaint in one frame, 15 a second at most.

    There is no standing timer: the first request arms one frame. Where the terminal is slow (a remote one) frames are
    left out until it has drawn what it was sent; otherwise the full queue to it would block keys as well.
    """

    _clocks: ClassVar[WeakKeyDictionary[App[Any], FrameClock]] = WeakKeyDictionary()

    def __init__(self, app: App[Any]) -> None:
        self._app = app
        self._asked: dict[Painted, None] = {}
        self._armed = False
        self._next = 0.0  # monotonic
        self.frames = 0

    @classmethod
    def of(cls, app: App[Any]) -> FrameClock:
        clock = cls._clocks.get(app)
        if clock is None:
            clock = cls._clocks[app] = cls(app)
        return clock

    def request(self, widget: Painted) -> None:
        self._asked[widget] = None
        if not self._armed:
            self._arm(max(0.001, self._next - monotonic()))

    def forget(self, widget: Painted) -> None:
        self._asked.pop(widget, None)

    def _arm(self, seconds: float) -> None:
        self._armed = True
        self._app.set_timer(seconds, self._frame, name="frame")

    def _frame(self) -> None:
        self._next = monotonic() + FRAME_SECONDS
        if _writes_waiting(self._app) > BACKLOG_WRITES:
            self._arm(FRAME_SECONDS)
            return
        self._armed = False
        asked, self._asked = self._asked, {}
        self.frames += 1
        for widget in asked:
            widget.commit_frame()


def _writes_waiting(app: App[Any]) -> int:
    """How much the terminal has not taken yet. Textual tells it nowhere publicly; where it changes, 0 is the answer."""
    queue = getattr(getattr(app._driver, "_writer_thread", None), "_queue", None)
    return int(queue.qsize()) if queue is not None else 0
