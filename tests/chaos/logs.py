"""What the logs of agents and conductors must show: an outage is said once when it begins and once when it ends."""

from __future__ import annotations

from pathlib import Path

SERVERS = ("PostgreSQL", "Redis")


def repeated(logs: Path) -> list[str]:
    """A sentence for each log in which an outage was said twice, or ended without a beginning."""
    found = []
    for path in sorted(logs.glob("*.log")):
        lines = _lines(path.with_name(path.name + ".1")) + _lines(path)
        for server in SERVERS:
            reached: bool | None = None
            for line in lines:
                if " start    " in line or " ready    conductor" in line:
                    reached = None
                up = f" reach    {server} is there" in line
                if not up and f" lost     {server} can't be reached" not in line:
                    continue
                if reached is up:
                    found.append(f"{path.name} says twice in a row that {server} is {'there' if up else 'lost'}: {line}")
                    break
                reached = up
    return found


def _lines(path: Path) -> list[str]:
    return path.read_text(errors="replace").splitlines() if path.exists() else []
