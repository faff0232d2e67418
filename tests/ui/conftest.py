"""Times of day in pictures and tests are UTC, wherever they run; shapes are drawn, whatever the locale."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from echo_tui import glyphs


@pytest.fixture(autouse=True)
def _fixed_surroundings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setattr(glyphs, "ascii_only", lambda: False)
    yield
    monkeypatch.undo()
    time.tzset()
