from __future__ import annotations

import asyncio
import os
import signal

import pytest

from echo_core.bus.announcements import Announcements
from echo_core.errors import DatabaseUnavailable
from echo_core.storage.database import Database, DatabaseLimits
from tests.support.eventually import eventually


async def test_a_database_that_hangs_counts_as_lost_after_its_limit_and_comes_back(database_url: str) -> None:
    told: list[tuple[bool, str]] = []
    limits = DatabaseLimits(statement_seconds=0.5)
    database = Database(database_url, name="hung", limits=limits, on_reachable=lambda up, why: told.append((up, why)))
    async with database.session() as connection:
        row = await (await connection.execute("SELECT pg_backend_pid() AS pid")).fetchone()
    assert row is not None
    os.kill(row["pid"], signal.SIGSTOP)
    try:
        with pytest.raises(DatabaseUnavailable, match=r"no answer within 0\.5 s"):
            await asyncio.wait_for(database.fetch_one("delivery_counts"), 4)
    finally:
        os.kill(row["pid"], signal.SIGCONT)

    async def answers() -> bool:
        try:
            return await database.fetch_one("delivery_counts") is not None
        except DatabaseUnavailable:
            return False

    await eventually(answers)
    assert [up for up, _ in told] == [True, False, True]
    await database.close()


async def test_a_redis_that_accepts_and_says_nothing_counts_as_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("echo_core.bus.announcements.PONG_SECONDS", 0.2)
    told: list[tuple[bool, str]] = []
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    announcements = Announcements(
        f"redis://127.0.0.1:{port}", name="hung", on_reachable=lambda up, why: told.append((up, why))
    )
    listening = asyncio.create_task(announcements.listen(["messages:cto"], lambda channel, data: None))
    await eventually(lambda: announcements.reachable is False)
    assert not await announcements.publish("messages:cto", {})
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    await announcements.close()
    server.close()
    assert [up for up, _ in told] == [False]


async def test_announcements_are_heard_again_when_redis_is_back(redis_url: str) -> None:
    """The connection is cut from the server's side, like by a restart."""
    import redis.asyncio as redis

    connected = 0
    heard: list[bytes] = []

    def on_connected() -> None:
        nonlocal connected
        connected += 1

    announcements = Announcements(redis_url, name="comes-back")
    listening = asyncio.create_task(announcements.listen(["back"], lambda channel, data: heard.append(data), on_connected))
    await eventually(lambda: connected == 1)
    client = redis.Redis.from_url(redis_url)
    for each in await client.client_list():
        if each["name"] == "echo-comes-back":
            await client.client_kill_filter(_id=each["id"])
    await eventually(lambda: connected == 2)
    await client.publish("back", b"again")
    await eventually(lambda: heard == [b"again"])
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    await client.aclose()
    await announcements.close()


async def test_a_name_of_several_words_is_taken_by_redis(redis_url: str) -> None:
    announcements = Announcements(redis_url, name="control room")
    assert await announcements.publish("messages:cto", {})
    await announcements.close()
