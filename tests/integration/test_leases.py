"""Two agents of one role, and one of them in trouble: whose message it is, and whose effects count."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import pytest

from echo_core.bus.announcements import Announcements
from echo_core.bus.message import Message
from echo_core.bus.publish import publish
from echo_core.bus.receive import Effects, ReceivePolicy, Receiver
from echo_core.logs import Log
from echo_core.services import EmbeddedServers
from echo_core.storage.database import Database, DatabaseLimits
from tests.support.eventually import eventually
from tests.support.link import Link

QUICK = ReceivePolicy(tick_seconds=0.2, renew_seconds=0.3, lease_seconds=1.0, backoff_seconds=0.02)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "test.log")


@asynccontextmanager
async def instance(
    number: int, database_url: str, redis_url: str, handle: Callable[[Message], Awaitable[Effects | None]], log: Log
) -> AsyncIterator[Receiver]:
    owner = f"cto-{number}@test:{number}"
    database = Database(database_url, name=owner, durable=False, limits=DatabaseLimits(statement_seconds=0.5))
    announcements = Announcements(redis_url, name=owner)
    receiver = Receiver(database, announcements, "cto", owner, handle, log, policy=QUICK)
    running = asyncio.create_task(receiver.run())
    try:
        yield receiver
    finally:
        receiver.stop(1.0)
        await running
        await announcements.close()
        await database.close()


class Worker:
    """Handles slowly: what it was given waits until it is let go. Its effect says who made it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.given: list[int | None] = []
        self.go = asyncio.Event()

    async def __call__(self, message: Message) -> Effects:
        self.given.append(message.id)
        await self.go.wait()
        return Effects((Message.compose("cto", "operator", "response", f"By {self.name}", in_reply_to=message.id),))


async def answers(database: Database) -> list[str]:
    async with database.session() as connection:
        rows = await (await connection.execute("SELECT subject FROM messages WHERE from_role = 'cto'")).fetchall()
    return [row["subject"] for row in rows]


async def lease(database: Database) -> datetime | None:
    async with database.session() as connection:
        row = await (await connection.execute("SELECT lease_until FROM deliveries WHERE role = 'cto'")).fetchone()
    return row["lease_until"] if row else None


async def test_a_lease_is_renewed_for_as_long_as_the_handler_works(
    database_url: str, redis_url: str, database: Database, log: Log
) -> None:
    worker, other = Worker("the first"), Worker("the second")
    async with instance(1, database_url, redis_url, worker, log):
        await publish(database, None, Message.compose("operator", "cto", "request", "Long work"))
        await eventually(lambda: len(worker.given) == 1)
        async with instance(2, database_url, redis_url, other, log):
            first = await lease(database)
            assert first is not None

            async def renewed_beyond_its_length() -> bool:
                now = await lease(database)
                return now is not None and (now - first).total_seconds() > 1.5 * QUICK.lease_seconds

            await eventually(renewed_beyond_its_length)
            worker.go.set()

            async def answered() -> bool:
                return await answers(database) == ["By the first"]

            await eventually(answered)
            assert other.given == []


async def test_another_instance_takes_over_from_one_that_fell_silent_and_only_its_effects_count(
    database_url: str, database_name: str, redis_url: str, servers: EmbeddedServers, database: Database, log: Log
) -> None:
    link = Link(str(servers.postgres.home.postgres_data / ".s.PGSQL.5432"))
    await link.start()
    far_url = f"postgresql://echo@127.0.0.1:{link.port}/{database_name}"
    silent, other = Worker("the silent one"), Worker("the other")
    other.go.set()
    async with instance(1, far_url, redis_url, silent, log):
        await publish(database, None, Message.compose("operator", "cto", "request", "Who does it?"))
        await eventually(lambda: len(silent.given) == 1)
        link.silence()
        async with instance(2, database_url, redis_url, other, log):

            async def answered() -> bool:
                return await answers(database) == ["By the other"]

            await eventually(answered)
        link.restore()
        silent.go.set()
        assert log.path is not None
        path = log.path
        await eventually(lambda: "lost     lease of" in path.read_text())
        assert await answers(database) == ["By the other"]
    await link.close()
