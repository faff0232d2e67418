"""Named queries from sql/queries.sql."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

_NAME = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


@cache
def sql_dir() -> Path:
    """`sql/`: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    shipped = package / "sql"
    return shipped if shipped.is_dir() else package.parent / "sql"


@cache
def _queries() -> dict[str, bytes]:
    parts = _NAME.split((sql_dir() / "queries.sql").read_text(encoding="utf-8"))
    return {name: body.strip().rstrip(";").encode() for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def query(name: str) -> bytes:
    """The text of a named query; KeyError if there is none."""
    return _queries()[name]
