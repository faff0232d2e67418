"""What the commands share: a loop that ends cleanly on a signal, connections, and ending what runs."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from echo_core.errors import DatabaseUnavailable, EchoError, SupervisorUnavailable
from echo_core.health.states import AgentState
from echo_core.organisation import Organisation, load_organisation
from echo_core.services import EmbeddedServers, resolve_urls
from echo_core.settings import Settings
from echo_core.snapshot import AgentView, Snapshot
from echo_core.storage.database import Database
from echo_core.supervisor.child import Child, ProcessId, RestartPolicy, lock_holder
from echo_core.supervisor.client import SupervisorClient

STOP_SECONDS = 40.0  # the grace of agents and conductor, then the servers' own
READY = (AgentState.HEALTHY, AgentState.BUSY)
POLL_SECONDS = 0.1
REDIS_SECONDS = 3.0


def run_async(work: Coroutine[Any, Any, int]) -> int:
    """Runs `work`; the first Ctrl-C, SIGTERM or SIGHUP cancels it, so that its `finally` parts still run to their end."""

    async def guarded() -> int:
        task = asyncio.current_task()
        assert task is not None
        received: list[int] = []

        def leave(number: int) -> None:
            received.append(number)
            if len(received) == 1:
                task.cancel()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, leave, number)
        try:
            return await work
        except asyncio.CancelledError:
            if received:
                return 128 + received[0]
            raise

    return asyncio.run(guarded())


def known_organisation(settings: Settings) -> Organisation:
    """The organisation, with every role of the roster known. Raises OrganisationError or UnknownRole."""
    organisation = load_organisation(settings.organisation)
    for role in settings.roster:
        organisation.role(role)
    return organisation


@asynccontextmanager
async def database(settings: Settings) -> AsyncIterator[Database]:
    """For reading commands. Raises EchoError that says how to start what is not running."""
    connection = Database(resolve_urls(settings).database_url, name="command line")
    try:
        yield connection
    except DatabaseUnavailable as error:
        if not settings.database_url and EmbeddedServers(settings).postgres_pid() is None:
            raise EchoError(
                "PostgreSQL of this data directory is not running; `echo-tui up --no-agents` starts it"
            ) from error
        raise
    finally:
        await connection.close()


async def check_servers(settings: Settings) -> None:
    """Before anything is started: whether the servers that are given can be used. Raises EchoError with what to do."""
    if settings.database_url:
        postgres = Database(settings.database_url, name="command line")
        try:
            async with postgres.session():
                pass
        except DatabaseUnavailable as error:
            raise EchoError(f"{error}; start that server or check --database-url. Nothing was started") from error
        finally:
            await postgres.close()
    if settings.redis_url:
        reason = await _redis_trouble(settings.redis_url)
        if reason:
            raise EchoError(f"Redis can't be reached: {reason}; start that server or check --redis-url. Nothing was started")


async def _redis_trouble(url: str) -> str:
    import redis.asyncio as redis

    client = redis.Redis.from_url(url, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS)
    try:
        await client.ping()
    except (redis.RedisError, OSError, ValueError) as error:
        return " ".join(str(error).split()) or type(error).__name__
    finally:
        await client.aclose()
    return ""


async def running_supervisor(settings: Settings) -> SupervisorClient | None:
    """A client of the supervisor that runs, or None. Changes nothing."""
    client = SupervisorClient(settings)
    try:
        await client.connect(start=False)
    except SupervisorUnavailable:
        return None
    return client


def wanted(settings: Settings) -> list[tuple[str, int]]:
    """The roster as (role, instance)."""
    counts: dict[str, int] = {}
    keys = []
    for role in settings.roster:
        counts[role] = counts.get(role, 0) + 1
        keys.append((role, counts[role]))
    return keys


def by_key(snapshot: Snapshot) -> dict[tuple[str, int], AgentView]:
    return {(agent.role, agent.instance): agent for agent in snapshot.agents}


def name_of(key: tuple[str, int]) -> str:
    return key[0] if key[1] == 1 else f"{key[0]}-{key[1]}"


@dataclass(slots=True)
class Ended:
    """What `stop_everything` did: the names it ended, and those it could not."""

    names: list[str]
    left: list[str]


async def stop_everything(settings: Settings) -> Ended:
    """End all that runs in the data directory: by its supervisor, and whatever is left then by its lock file."""
    before = {**locked(settings), **server_pids(settings)}
    holder = lock_holder(settings.run_dir / "supervisor.lock")
    if holder is not None:
        try:
            await SupervisorClient(settings).command("shutdown")
        except EchoError:
            # It does not listen (any more): its lock file names it, and what it leaves is ended below.
            await _end(settings, "supervisor", 0.5)
        if not await _gone(holder, STOP_SECONDS):
            await _end(settings, "supervisor", 0.5)
    names = sorted(locked(settings))
    await asyncio.gather(*(_end(settings, name, settings.grace_seconds) for name in names))
    if server_pids(settings):
        await EmbeddedServers(settings).stop()
    after = {**locked(settings), **server_pids(settings)}
    return Ended([name for name in before if name not in after], list(after))


def locked(settings: Settings) -> dict[str, int]:
    """Names and pids of the processes that hold a lock file of the data directory."""
    holders = {path.stem: lock_holder(path) for path in sorted(settings.run_dir.glob("*.lock"))}
    return {name: holder.pid for name, holder in holders.items() if holder is not None}


def server_pids(settings: Settings) -> dict[str, int]:
    """The embedded servers that run, whoever started them; not those in whose place a URL is given."""
    servers = EmbeddedServers(settings)
    pids = {
        "postgresql": None if settings.database_url else servers.postgres_pid(),
        "valkey": None if settings.redis_url else servers.valkey_pid(),
    }
    return {name: pid for name, pid in pids.items() if pid is not None}


async def _end(settings: Settings, name: str, grace_seconds: float) -> None:
    child = Child(name, [], {}, settings.run_dir, settings.logs_dir / f"{name}.log", RestartPolicy())
    if child.adopt():
        await child.stop(grace_seconds)


async def _gone(identity: ProcessId, seconds: float) -> bool:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while identity.alive():
        if loop.time() > deadline:
            return False
        await asyncio.sleep(POLL_SECONDS / 2)
    return True
