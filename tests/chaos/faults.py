"""What each fault does to the organisation, and how it is undone."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil
import psycopg
import redis.asyncio as redis

from tests.chaos.organisation import Machine, Organisation
from tests.chaos.recovery import Recovery
from tests.chaos.schedule import Fault

OF_SERVERS = (
    "restart PostgreSQL", "kill PostgreSQL", "kill a PostgreSQL backend", "hang PostgreSQL",
    "restart Valkey", "kill Valkey", "hang Valkey",
)  # fmt: skip
BIG_BURST = 120  # more than an agent gets done before it is hit
BURST, BURST_OF_SERVERS = 20, 4  # requests to each role, put just before a fault
BURST_SECONDS = 0.15  # about what an agent needs for them: the fault hits somewhere in between
ASK_SECONDS = 3  # of a helper's own question to a server that may be down
GARBAGE = (
    b"not json",
    b"\xff\xfe\x00",
    b"[" * 100_000,
    b'{"db_id": "7"}',
    b'{"db_id": 99999999}',
    b'{"db_id": 5, "metadata": 7}',
    b'{"db_id": ' + b"9" * 5000 + b"}",
    b"x" * 10_000_000,
)


@dataclass(slots=True)
class Faults:
    """Injects faults one by one. `inject` returns when the fault is undone; what recovers afterwards is measured apart."""

    organisation: Organisation
    recovery: Recovery

    async def inject(self, fault: Fault) -> str:
        """Returns who was hit, "" when there was nobody to hit at that moment."""
        if fault.kind in OF_SERVERS:
            await self.recovery.burst(self.organisation.roles, BURST_OF_SERVERS)
            async with self.recovery.one_at_a_time:
                return await self._kinds()[fault.kind](fault)
        return await self._kinds()[fault.kind](fault)

    def _kinds(self) -> dict[str, Callable[[Fault], Awaitable[str]]]:
        return {
            "kill an agent": self._kill_agent,
            "stop an agent and let it go on": self._hold_agent,
            "stop an agent for long": self._hold_one_of_several,
            "kill the conductor": lambda fault: self._kill(self._named("conductor"), fault),
            "stop the conductor and let it go on": lambda fault: self._hold(self._named("conductor"), fault),
            "stop the conductor for long": lambda fault: self._hold(self._named("conductor"), fault),
            "kill the supervisor": lambda fault: self._kill(self._named("supervisor"), fault),
            "kill a sender": lambda fault: self._kill(self._senders(), fault),
            "restart PostgreSQL": lambda fault: self._end_server("postgresql", signal.SIGINT),
            "kill PostgreSQL": lambda fault: self._end_server("postgresql", signal.SIGKILL),
            "kill a PostgreSQL backend": self._kill_backend,
            "hang PostgreSQL": lambda fault: self._hang("postgresql", fault),
            "restart Valkey": lambda fault: self._end_server("valkey", signal.SIGTERM),
            "kill Valkey": lambda fault: self._end_server("valkey", signal.SIGKILL),
            "hang Valkey": lambda fault: self._hang("valkey", fault),
            "cut connections to PostgreSQL": self._cut_postgres,
            "cut connections to Valkey": self._cut_valkey,
            "cut the link": self._cut_link,
            "black-hole the link": self._silence_link,
            "hostile payloads": self._hostile,
        }

    # -- processes -----------------------------------------------------------------------------------------------------

    def _agents(self) -> list[tuple[str, int]]:
        return [(name, holder.pid) for machine in self.organisation.machines for name, holder in machine.agents()]

    def _named(self, name: str) -> list[tuple[str, int]]:
        holders = [machine.holder(name) for machine in self.organisation.machines]
        return [(name, holder.pid) for holder in holders if holder is not None]

    def _senders(self) -> list[tuple[str, int]]:
        senders = [s for s in self.organisation.senders if s.process is not None and s.process.poll() is None]
        return [(sender.plan.stem, sender.process.pid) for sender in senders if sender.process is not None]

    async def _kill_agent(self, fault: Fault) -> str:
        victims = await self._busy(fault)
        return await self._kill(victims, fault)

    async def _hold_agent(self, fault: Fault) -> str:
        victims = await self._busy(fault)
        return await self._hold(victims, fault)

    async def _hold_one_of_several(self, fault: Fault) -> str:
        """With much in hand: another instance takes that over, and what the held one does afterwards must not count."""
        roles = Counter(name.partition("-")[0] for name, _ in self._agents())
        several = [(name, pid) for name, pid in self._agents() if roles[name.partition("-")[0]] > 1]
        if not several:
            return ""
        victim = several[int(fault.choice * len(several))]
        await self.recovery.burst([victim[0].partition("-")[0]], BIG_BURST)
        await asyncio.sleep(fault.choice * 37 % 1 * BURST_SECONDS)
        return await self._hold([victim], fault)

    async def _busy(self, fault: Fault) -> list[tuple[str, int]]:
        """Whom to hit, given work a moment ago."""
        victims = self._agents()
        if not victims:
            return []
        name, pid = victims[int(fault.choice * len(victims))]
        await self.recovery.burst([name.partition("-")[0]], BURST)
        await asyncio.sleep(fault.choice * 37 % 1 * BURST_SECONDS)
        return [(name, pid)]

    async def _kill(self, victims: list[tuple[str, int]], fault: Fault) -> str:
        if not victims:
            return ""
        name, pid = victims[int(fault.choice * len(victims))]
        _signal(pid, signal.SIGKILL)
        return name

    async def _hold(self, victims: list[tuple[str, int]], fault: Fault) -> str:
        if not victims:
            return ""
        name, pid = victims[int(fault.choice * len(victims))]
        with _held([pid]):
            await asyncio.sleep(fault.lasts_seconds)
        return name

    # -- servers -------------------------------------------------------------------------------------------------------

    def _server_pid(self, name: str) -> int | None:
        return self.organisation.servers.postgres_pid() if name == "postgresql" else self.organisation.servers.valkey_pid()

    async def _end_server(self, name: str, number: signal.Signals) -> str:
        pid = self._server_pid(name)
        if pid is None:
            return ""
        _signal(pid, number)
        await self.recovery.after_restart(name, pid)
        return name

    async def _kill_backend(self, fault: Fault) -> str:
        """PostgreSQL then ends all others too, and recovers as after a crash."""
        pid = self._server_pid("postgresql")
        rows = await self._ask_postgres("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'echo %' ORDER BY pid")
        if pid is None or not rows:
            return ""
        _signal(rows[int(fault.choice * len(rows))][0], signal.SIGKILL)
        await self.recovery.after_restart("postgresql", None)
        return "postgresql"

    async def _hang(self, name: str, fault: Fault) -> str:
        pid = self._server_pid(name)
        if pid is None:
            return ""
        with suppress(psutil.Error):
            pids = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
            with _held(pids):
                await asyncio.sleep(fault.lasts_seconds)
        await self.recovery.after_return(name)
        return name

    async def _cut_postgres(self, fault: Fault) -> str:
        rows = await self._ask_postgres(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'echo %%' AND random() < %s",
            [0.3 + fault.choice],
        )
        return f"{len(rows)} connections" if rows else ""

    async def _cut_valkey(self, fault: Fault) -> str:
        client = redis.Redis.from_url(self.organisation.servers.redis_url, socket_timeout=ASK_SECONDS)
        cut = 0
        try:
            for number, each in enumerate(await client.client_list()):
                if each["name"].startswith("echo-") and (number * fault.choice) % 1 < 0.6:
                    cut += int(await client.client_kill_filter(_id=each["id"]))
        except (redis.RedisError, OSError):
            return f"{cut} connections" if cut else ""
        finally:
            with suppress(redis.RedisError, OSError):
                await client.aclose()
        return f"{cut} connections" if cut else ""

    async def _ask_postgres(self, statement: str, values: list[object] | None = None) -> list[tuple[int]]:
        try:
            url = self.organisation.servers.postgres.url("postgres")
            async with asyncio.timeout(ASK_SECONDS):
                async with await psycopg.AsyncConnection.connect(url, autocommit=True, connect_timeout=ASK_SECONDS) as admin:
                    return await (await admin.execute(statement, values)).fetchall()
        except (psycopg.Error, OSError, TimeoutError):
            return []

    # -- the link and the channels -----------------------------------------------------------------------------------------

    async def _cut_link(self, fault: Fault) -> str:
        link = self.organisation.postgres_link if fault.choice < 0.6 else self.organisation.valkey_link
        assert link is not None
        link.cut()
        return "link"

    async def _silence_link(self, fault: Fault) -> str:
        links = [self.organisation.postgres_link, self.organisation.valkey_link]
        chosen = [link for link in (links if fault.choice < 0.4 else links[:1] if fault.choice < 0.7 else links[1:]) if link]
        for link in chosen:
            link.silence()
        try:
            await asyncio.sleep(fault.lasts_seconds)
        finally:
            for link in chosen:
                link.restore()
        return "link"

    async def _hostile(self, fault: Fault) -> str:
        """Garbage, ids owed to others and forged content, on every channel somebody listens to."""
        client = redis.Redis.from_url(self.organisation.servers.redis_url, socket_timeout=ASK_SECONDS)
        forged = await self._ask_postgres("SELECT id FROM messages ORDER BY random() LIMIT 3")
        lies = [
            json.dumps({"db_id": number, "from": "ceo", "to": "cto", "type": "request", "subject": "Forged", "content": {}})
            for (number,) in forged
        ]
        channels = ["messages:all", "messages:leadership", "messages:conductor", "agents:heartbeat"]
        channels += [f"messages:{role}" for role in self.organisation.roles]
        try:
            for position, data in enumerate([*GARBAGE, *lies]):
                await client.publish(channels[(position + int(fault.choice * 100)) % len(channels)], data)
        except (redis.RedisError, OSError):
            return ""
        finally:
            with suppress(redis.RedisError, OSError):
                await client.aclose()
        return "channels"


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


@contextmanager
def _held(pids: list[int]) -> Iterator[None]:
    started = {}
    for pid in pids:
        with suppress(psutil.Error):
            started[pid] = psutil.Process(pid).create_time()
            _signal(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid, created in started.items():
            with suppress(psutil.Error):
                if psutil.Process(pid).create_time() == created:
                    _signal(pid, signal.SIGCONT)


def unheld(machine: Machine) -> None:
    """Whoever is still held goes on: an agent may have been stopped and its stopper cancelled."""
    for name in ("supervisor", "conductor"):
        holder = machine.holder(name)
        if holder is not None:
            _signal(holder.pid, signal.SIGCONT)
    for _, holder in machine.agents():
        _signal(holder.pid, signal.SIGCONT)
