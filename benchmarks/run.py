"""How long a question takes from nothing to a stored outcome by rules, over starting the servers alone. Prints JSON.

Each round has a data directory of its own: PostgreSQL is made from nothing in both. Rounds of both alternate.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from echo_core.services import EmbeddedServers
from echo_core.settings import Settings

ROUNDS = 3
ECHO_TUI = Path(sys.executable).with_name("echo-tui")
QUESTION = "Shall we migrate billing to PostgreSQL 18 this quarter?"
BODY = "It takes two developers a month and a maintenance window of four hours."


async def start_servers(data_dir: Path) -> float:
    """Seconds until both servers of a new data directory answer."""
    settings = Settings.load(data_dir=data_dir, environ={})
    settings.prepare()
    servers = EmbeddedServers(settings)
    begin = time.perf_counter()
    await servers.start()
    seconds = time.perf_counter() - begin
    await servers.stop()
    return seconds


def run(data_dir: Path) -> tuple[float, float, dict[str, Any]]:
    """Seconds until the outcome is stored and printed, seconds until everything has ended again, and what was printed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ECHO_", "OLLAMA_"))}
    command = [str(ECHO_TUI), "run", "--data-dir", str(data_dir), "--delay", "0", "--json"]
    begin = time.perf_counter()
    printed, told = b"", begin
    with subprocess.Popen(
        [*command, "--subject", QUESTION, "--body", BODY],
        env={**kept, "ECHO_LLM": "off"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        while chunk := os.read(process.stdout.fileno(), 65536):
            printed, told = printed + chunk, time.perf_counter()
    if process.returncode not in (0, 3):
        raise SystemExit(f"`echo-tui run` ended with exit code {process.returncode}")
    return told - begin, time.perf_counter() - begin, json.loads(printed)


def remove(data_dir: Path) -> None:
    home = data_dir / "servers"
    if home.is_symlink():
        shutil.rmtree(os.readlink(home), ignore_errors=True)
    shutil.rmtree(data_dir, ignore_errors=True)


def main() -> None:
    floors: list[float] = []
    outcomes: list[float] = []
    wholes: list[float] = []
    record: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="echo-bench-") as folder:
        for number in range(ROUNDS):
            floor_dir, data_dir = Path(folder) / f"servers-{number}", Path(folder) / f"run-{number}"
            try:
                floors.append(asyncio.run(start_servers(floor_dir)))
                outcome, whole, record = run(data_dir)
            finally:
                remove(floor_dir)
                remove(data_dir)
            outcomes.append(outcome)
            wholes.append(whole)
    result = {
        "rounds": ROUNDS,
        "servers_alone_s": round(statistics.median(floors), 2),
        "stored_outcome_s": round(statistics.median(outcomes), 2),
        "target_s": 20,
        "with_everything_ended_s": round(statistics.median(wholes), 2),
        "phases_s": {phase["name"]: phase["seconds"] for phase in record["phases"]},
        "status": record["status"],
    }
    json.dump({"benchmark": "run", "run": result}, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
