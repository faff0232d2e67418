"""The organisation under test: two machines on one database, and an operator who keeps an eye on both."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from echo_core.bus.outbox import Outbox
from echo_core.errors import EchoError, SupervisorUnavailable
from echo_core.health.states import AgentState
from echo_core.organisation.loader import DEFAULT_FILE
from echo_core.services import EmbeddedServers
from echo_core.settings import Settings, parse_roster
from echo_core.supervisor.child import ProcessId, lock_holder
from echo_core.supervisor.client import SupervisorClient
from tests.support.link import Link
from tests.support.servers import new_data_dir, remove_data_dir

LIMITS = {"startup": 8, "broadcast": 6, "self_selection": 8, "discussion": 8, "consensus": 8, "synthesis": 8}
UP_SECONDS = 120.0  # generous: the machine may be busy with something else
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(slots=True)
class Machine:
    """One data directory with its supervisor, as an operator's client sees it."""

    settings: Settings
    client: SupervisorClient
    stopped: set[int] = field(default_factory=set)  # pids that are held by SIGSTOP
    revived: int = 0  # supervisors that had to be started again
    restarted: int = 0  # agents that were given up and started by hand

    @classmethod
    def on(cls, settings: Settings) -> Machine:
        settings.prepare()
        return cls(settings, SupervisorClient(settings))

    def holder(self, name: str) -> ProcessId | None:
        return lock_holder(self.settings.run_dir / f"{name}.lock")

    def agents(self) -> list[tuple[str, ProcessId]]:
        """Those that run, by name."""
        names = sorted(path.stem for path in self.settings.run_dir.glob("*.lock"))
        found = [(name, self.holder(name)) for name in names if name not in ("supervisor", "conductor")]
        return [(name, holder) for name, holder in found if holder is not None]

    async def look(self) -> None:
        """What a control room does all the time: start a supervisor when none runs, and an agent that was given up."""
        try:
            runs = self.holder("supervisor") is not None
            await self.client.connect()
            self.revived += not runs
            snapshot = await self.client.status()
            for agent in snapshot.agents:
                if agent.local and agent.state == AgentState.GAVE_UP:
                    await self.client.command("start", role=agent.role, instance=agent.instance)
                    self.restarted += 1
        except (SupervisorUnavailable, EchoError):
            return  # it died while it was asked: the next look starts another

    def outbox(self) -> Outbox:
        return Outbox(self.settings.outbox_dir)


@dataclass(slots=True)
class Sender:
    machine: Machine
    plan: Path
    journal: Path
    progress: Path
    process: subprocess.Popen[bytes] | None = None
    done: bool = False
    crashes: int = 0

    def tend(self) -> None:
        """Start it, or start it again after a crash."""
        if self.done:
            return
        if self.process is not None:
            code = self.process.poll()
            if code is None:
                return
            if code == 0:
                self.done = True
                return
            self.crashes += 1
        environment = {**os.environ, **self.machine.settings.environment()}
        arguments = [sys.executable, "-m", "tests.chaos.sender", str(self.plan), str(self.journal), str(self.progress)]
        with (self.machine.settings.logs_dir / f"{self.plan.stem}.log").open("ab") as log:
            self.process = subprocess.Popen(arguments, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


class Organisation:
    """`home` has the embedded servers; `away` reaches them through links that can be cut."""

    def __init__(self, home_roster: str, away_roster: str) -> None:
        self.folder = new_data_dir()
        self._rosters = home_roster, away_roster
        self.senders: list[Sender] = []
        self._organisation_file = self.folder / "organisation.toml"
        self._organisation_file.write_text(_with_limits(DEFAULT_FILE.read_text(encoding="utf-8")))
        base = replace(
            Settings.load(data_dir=self.folder / "home", delay=0, organisation=self._organisation_file, environ={}),
            llm="off",
        )
        self.home = Machine.on(replace(base, roster=parse_roster(home_roster)))
        self.servers = EmbeddedServers(self.home.settings)
        self.away: Machine | None = None
        self.postgres_link: Link | None = None
        self.valkey_link: Link | None = None

    @property
    def machines(self) -> list[Machine]:
        return [self.home, *([self.away] if self.away else [])]

    @property
    def roles(self) -> list[str]:
        return list(dict.fromkeys(parse_roster(",".join(self._rosters))))

    @property
    def agent_count(self) -> int:
        return len(parse_roster(",".join(self._rosters)))

    async def start(self) -> None:
        """Returns when every agent of both machines is there."""
        adopt_orphans()
        await self.home.client.connect()
        await self._until_up(self.home)
        self.servers = EmbeddedServers(self.home.settings)
        self.postgres_link = Link(str(self.servers.postgres.home.postgres_data / ".s.PGSQL.5432"))
        self.valkey_link = Link(str(self.servers.valkey.socket))
        await self.postgres_link.start()
        await self.valkey_link.start()
        settings = replace(
            self.home.settings,
            data_dir=self.folder / "away",
            database_url=f"postgresql://echo@127.0.0.1:{self.postgres_link.port}/echo",
            redis_url=f"redis://127.0.0.1:{self.valkey_link.port}",
            roster=parse_roster(self._rosters[1]),
        )
        self.away = Machine.on(settings)
        await self.away.client.connect()
        await self._until_up(self.away)

    async def _until_up(self, machine: Machine) -> None:
        wanted = len(machine.settings.roster)
        deadline = asyncio.get_running_loop().time() + UP_SECONDS
        while True:
            with suppress(EchoError):
                snapshot = await machine.client.status()
                local = [agent for agent in snapshot.agents if agent.local]
                if len(local) >= wanted and all(agent.state in (AgentState.HEALTHY, AgentState.BUSY) for agent in local):
                    return
            if asyncio.get_running_loop().time() > deadline:
                raise EchoError(f"the organisation did not come up within {UP_SECONDS:g} s; see {machine.settings.logs_dir}")
            await asyncio.sleep(0.1)

    async def look(self) -> None:
        for machine in self.machines:
            await machine.look()
        for sender in self.senders:
            sender.tend()
        self.reap()

    def reap(self) -> None:
        """Orphans become our children: those that ended are taken from the process table, as init would."""
        own = {sender.process.pid for sender in self.senders if sender.process is not None}
        own |= {machine.client._process.pid for machine in self.machines if machine.client._process is not None}
        for child in psutil.Process().children():
            with suppress(psutil.Error, ChildProcessError):
                if child.pid not in own and child.status() == psutil.STATUS_ZOMBIE:
                    os.waitpid(child.pid, os.WNOHANG)

    async def stop(self) -> list[str]:
        """End everything with the product's own command; returns what it could not do, in sentences."""
        trouble = []
        for machine in reversed(self.machines):
            command = [sys.executable, "-m", "echo_tui", "stop", "--data-dir", str(machine.settings.data_dir)]
            process = await asyncio.create_subprocess_exec(
                *command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, **machine.settings.environment()},
            )
            output, _ = await process.communicate()
            if process.returncode:
                trouble.append(f"echo-tui stop ended with {process.returncode}: {output.decode().strip()}")
        for link in (self.postgres_link, self.valkey_link):
            if link is not None:
                await link.close()
        for machine in self.machines:
            if machine.client._process is not None:
                machine.client._process.poll()
        self.reap()
        return trouble

    def left(self) -> list[psutil.Process]:
        """Processes of this organisation that still run: our descendants, and whoever names its folder."""
        places = [str(self.folder), str(self.servers.postgres.home.folder)]
        found = {process.pid: process for process in psutil.Process().children(recursive=True)}
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if any(place in " ".join([*process.cmdline(), *process.environ().values()]) for place in places):
                    found[process.pid] = process
        found.pop(os.getpid(), None)
        return [process for process in found.values() if _alive(process)]

    def remove(self) -> None:
        for process in self.left():
            with suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        self.reap()
        for machine in self.machines:
            remove_data_dir(machine.settings.data_dir)
        remove_data_dir(self.folder)

    def counts(self) -> Counter[str]:
        return Counter(
            {
                "supervisors started again": sum(machine.revived for machine in self.machines),
                "agents started by hand": sum(machine.restarted for machine in self.machines),
                "sender crashes": sum(sender.crashes for sender in self.senders),
            }
        )


def adopt_orphans() -> None:
    """Where the kernel can (Linux): what loses its parent becomes ours, so that nothing can slip away unseen."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _with_limits(text: str) -> str:
    """The default organisation with short phases."""
    for name, seconds in LIMITS.items():
        text, count = re.subn(rf"(?m)^{name} = \d+$", f"{name} = {seconds}", text, count=1)
        assert count == 1, f"the default organisation has a limit for {name}"
    return text
