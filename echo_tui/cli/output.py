"""What a command says: data on standard output, progress and errors on standard error, nothing in it alive."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from echo_core.text import inert


def say(text: str = "") -> None:
    """One line of data, already inert."""
    sys.stdout.write(text + "\n")


def progress(text: str) -> None:
    """One line on standard error."""
    sys.stderr.write(inert(text) + "\n")
    sys.stderr.flush()


def say_json(value: Any) -> None:
    """ASCII only, so that every terminal and every pipe takes it and no character in it can act."""
    sys.stdout.write(json.dumps(value, indent=2, default=_plain) + "\n")


def say_table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Columns as wide as their widest cell; the last is not padded."""
    from rich.cells import cell_len

    cells = [[inert("" if value is None else value) for value in row] for row in rows]
    table = [list(heads), *cells]
    widths = [max(cell_len(row[column]) for row in table) for column in range(len(heads))]
    for row in table:
        padded = [text + " " * (width - cell_len(text)) for text, width in zip(row, widths, strict=True)]
        say("  ".join(padded).rstrip())


def local_time(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"


def seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} s"


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else str(value)
