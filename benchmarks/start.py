"""What a start costs over the raw parts it is made of, measured in the same run. Prints JSON.

First paint is compared with an empty Textual application in the same pseudo-terminal; six agents becoming healthy with six
fresh interpreters that only import the same libraries. Rounds of both alternate, so that a slower minute of the machine
hits both. What an agent imports and how much memory is its own is read from real agents that have handled a message.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil

from echo_core.settings import DEFAULT_ROSTER, Settings
from echo_core.snapshot import AgentView, Snapshot
from echo_core.supervisor.client import SupervisorClient
from echo_tui.cli.session import stop_everything
from tests.support.terminal import open_in_terminal

PAINTS = 9
LAUNCHES = 5
PATIENCE_SECONDS = 120.0
SIZE = {"columns": 120, "rows": 36}
MEGABYTE = 1_000_000
READY = ("healthy", "busy")
NOT_WANTED = ("textual", "rich", "mcp", "typer", "ollama", "httpx")  # by an agent that answers by rules
ECHO_TUI = Path(sys.executable).with_name("echo-tui")

EMPTY_APP = """
from textual.app import App
from textual.widgets import Static

class Empty(App):
    def compose(self):
        yield Static("Phases")

Empty().run()
"""
LIBRARIES = """
import asyncio, psycopg, redis.asyncio
from pydantic import BaseModel

class Answer(BaseModel):
    text: str
"""


def environment(data_dir: Path) -> dict[str, str]:
    """Nothing of the caller's own organisation, and no model."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ECHO_", "OLLAMA_"))}
    return {**kept, "ECHO_LLM": "off", "ECHO_DATA_DIR": str(data_dir)}


# -- first paint --------------------------------------------------------------------------------------------------------


def first_paint(folder: Path) -> dict[str, Any]:
    """Seconds from the start of the process until `Phases` comes out of the terminal."""
    script = folder / "empty_app.py"
    script.write_text(EMPTY_APP)
    floors: list[float] = []
    mine: list[float] = []
    for number in range(PAINTS + 1):
        data_dir = folder / f"paint-{number}"
        floor = _seconds_to_text([sys.executable, str(script)], data_dir)
        ours = _seconds_to_text([str(ECHO_TUI), "--data-dir", str(data_dir), "--delay", "0"], data_dir)
        if number:  # the first of both warms the file system's cache
            floors.append(floor)
            mine.append(ours)
    return {**_compared("empty_textual_app_s", floors, "echo_tui_s", mine), "target_ratio": 1.5}


def _seconds_to_text(command: list[str], data_dir: Path) -> float:
    begin = time.perf_counter()
    process, ours, theirs = open_in_terminal(command, **SIZE, environment=environment(data_dir))
    seen = b""
    try:
        while b"Phases" not in seen:
            if not select.select([ours], [], [], PATIENCE_SECONDS)[0]:
                raise SystemExit(f"{command[0]} painted nothing: {seen[-500:]!r}")
            seen += os.read(ours, 65536)
        return time.perf_counter() - begin
    finally:
        # Before it wakes a supervisor, which it does after its first paint.
        started = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        for child in started:
            child.kill()
        os.close(ours)
        os.close(theirs)


# -- six agents ---------------------------------------------------------------------------------------------------------


async def six_agents(settings: Settings, client: SupervisorClient) -> dict[str, Any]:
    """Seconds from `launch` until all six are healthy, the servers already running."""
    floors: list[float] = []
    mine: list[float] = []
    for number in range(LAUNCHES + 1):
        floor = await asyncio.to_thread(_import_six_times)
        begin = time.perf_counter()
        await client.command("launch", roster=list(DEFAULT_ROSTER), delay=0)
        await _until(client, lambda snapshot: sum(agent.state in READY for agent in snapshot.agents) == len(DEFAULT_ROSTER))
        ours = time.perf_counter() - begin
        if number:
            floors.append(floor)
            mine.append(ours)
        if number < LAUNCHES:
            await asyncio.gather(*(client.command("stop", role=role) for role in DEFAULT_ROSTER))
    return {**_compared("six_interpreters_importing_s", floors, "six_agents_healthy_s", mine), "target_ratio": 2.5}


def _import_six_times() -> float:
    begin = time.perf_counter()
    processes = [subprocess.Popen([sys.executable, "-c", LIBRARIES]) for _ in DEFAULT_ROSTER]
    for process in processes:
        if process.wait():
            raise SystemExit("the libraries can't be imported")
    return time.perf_counter() - begin


# -- one agent ----------------------------------------------------------------------------------------------------------


async def memory(settings: Settings, client: SupervisorClient) -> dict[str, Any]:
    """The most that any of six agents has for itself alone, each having handled a broadcast."""
    await _command(settings, "send", "--to", "all", "--type", "notification", "--subject", "To be noted")
    snapshot = await _until(client, lambda snapshot: snapshot.pending == 0)
    unique = [psutil.Process(agent.pid).memory_full_info().uss for agent in snapshot.agents if agent.pid]
    return {
        "agents": len(unique),
        "unique_mb_median": round(statistics.median(unique) / MEGABYTE, 1),
        "unique_mb_most": round(max(unique) / MEGABYTE, 1),
        "target_mb": 60,
    }


async def imports(settings: Settings, client: SupervisorClient) -> dict[str, Any]:
    """Every module that an agent by rules has imported until it has answered a request."""
    role = "test_lead"
    record = settings.data_dir / "imports.txt"
    with record.open("wb") as errors:
        agent = subprocess.Popen(  # noqa: ASYNC220 - starting takes a millisecond
            [sys.executable, "-X", "importtime", "-m", "echo_core.agents", role, "--autonomous"],
            env=environment(settings.data_dir),
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
    try:
        await _until(client, lambda snapshot: any(a.role == role and _well(a) for a in snapshot.agents))
        sent = ("--type", "request", "--subject", "Is the release tested?", "--body", "By tonight.")
        await _command(settings, "send", "--to", role, *sent)
        await _until(client, lambda snapshot: snapshot.pending == 0)
        said = json.loads(await _command(settings, "messages", "--json"))
        answered = any(message["from"] == role and message["type"] == "response" for message in said)
    finally:
        agent.terminate()
        await asyncio.to_thread(agent.wait)
    modules = re.findall(r"^import time:[^|]*\|[^|]*\|\s*(\S+)$", record.read_text(), re.MULTILINE)
    found = sorted({name.partition(".")[0] for name in modules} & set(NOT_WANTED))
    return {"modules": len(modules), "request_answered": answered, "not_wanted_but_imported": found}


def _well(agent: AgentView) -> bool:
    return agent.state in READY


# -- the pieces ---------------------------------------------------------------------------------------------------------


async def _until(client: SupervisorClient, check: Callable[[Snapshot], bool]) -> Snapshot:
    async def wait() -> Snapshot:
        async for snapshot in client.snapshots(restart=False):
            if check(snapshot):
                return snapshot
        raise SystemExit("the supervisor ended")

    waiting: Awaitable[Snapshot] = wait()
    return await asyncio.wait_for(waiting, PATIENCE_SECONDS)


async def _command(settings: Settings, *arguments: str) -> str:
    command = [str(ECHO_TUI), *arguments, "--data-dir", str(settings.data_dir)]
    done = await asyncio.to_thread(
        subprocess.run, command, env=environment(settings.data_dir), check=True, stdout=subprocess.PIPE, text=True
    )
    return str(done.stdout)


def _compared(floor: str, floors: list[float], ours: str, mine: list[float]) -> dict[str, Any]:
    """Medians, and the median of the ratios of neighbours: two that ran one after the other met the same machine."""
    ratios = [b / a for a, b in zip(floors, mine, strict=True)]
    return {
        "rounds": len(mine),
        floor: round(statistics.median(floors), 3),
        ours: round(statistics.median(mine), 3),
        "ratio": round(statistics.median(ratios), 2),
        "ratio_of_medians": round(statistics.median(mine) / statistics.median(floors), 2),
    }


async def organisation(folder: Path) -> dict[str, Any]:
    settings = Settings.load(data_dir=folder / "organisation", environ={})
    try:
        await _command(settings, "up", "--no-agents")
        client = SupervisorClient(settings)
        return {
            "six_agents": await six_agents(settings, client),
            "memory": await memory(settings, client),
            "imports": await imports(settings, client),
        }
    finally:
        await stop_everything(settings)
        home = settings.data_dir / "servers"
        if home.is_symlink():
            shutil.rmtree(os.readlink(home), ignore_errors=True)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="echo-bench-") as name:
        folder = Path(name)
        result = {"first_paint": first_paint(folder), **asyncio.run(organisation(folder))}
    json.dump({"benchmark": "start", **result}, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
