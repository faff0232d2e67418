"""Health of a real agent as others see it: by Redis, and by the database while Redis is away."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from echo_core.bus.announcements import Announcements
from echo_core.bus.message import Message
from echo_core.bus.publish import publish
from echo_core.health.breaker import BreakerState
from echo_core.health.follow import follow_agent_status, follow_heartbeats
from echo_core.health.monitor import HealthMonitor, HealthPolicy
from echo_core.health.states import AgentState
from echo_core.settings import Settings
from echo_core.storage.database import Database
from tests.support.eventually import eventually
from tests.support.ollama_process import OllamaProcess

AT_WORK = (AgentState.HEALTHY, AgentState.BUSY)


@pytest.fixture
async def agent(settings: Settings) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "echo_core.agents", "cto", "--autonomous", "--supervised"),
        env={**os.environ, **settings.environment(), "ECHO_LLM": "off"},
    )
    yield process
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGCONT)
        process.kill()
    await process.wait()


async def watch(monitor: HealthMonitor) -> None:
    while True:
        monitor.tick()
        await asyncio.sleep(0.05)


async def test_a_stopped_agent_is_late_then_down_and_healthy_again_when_it_goes_on(
    agent: asyncio.subprocess.Process, redis_url: str
) -> None:
    changes: list[tuple[str, str]] = []
    monitor = HealthMonitor(
        HealthPolicy(late_seconds=3.0, down_seconds=5.0),
        on_transition=lambda health, old, new, reason: changes.append((old, new)),
    )
    announcements = Announcements(redis_url, name="monitor")
    tasks = [asyncio.create_task(follow_heartbeats(monitor, announcements)), asyncio.create_task(watch(monitor))]
    try:
        health = monitor.agent("cto")
        await eventually(lambda: health.state in AT_WORK)
        agent.send_signal(signal.SIGSTOP)
        await eventually(lambda: health.state is AgentState.DOWN, timeout=20)
        assert health.breaker.state is BreakerState.OPEN
        assert not monitor.live("cto")
        agent.send_signal(signal.SIGCONT)
        await eventually(lambda: health.state in AT_WORK)
        await eventually(lambda: health.breaker.state is BreakerState.CLOSED)  # with the first beat after its wait
        assert monitor.live("cto")
        kept = [(old, new) for old, new in changes if {old, new} != set(AT_WORK)]
        assert [new for _, new in kept][-3:] == [AgentState.LATE, AgentState.DOWN, AgentState.HEALTHY]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await announcements.close()


async def test_without_redis_a_message_is_found_by_catch_up_and_health_is_read_from_the_database(
    settings: Settings, tmp_path: Path, database: Database
) -> None:
    nowhere = f"unix://{tmp_path}/none.sock"
    environment = {**os.environ, **settings.with_urls(settings.database_url, nowhere).environment(), "ECHO_LLM": "off"}
    agent = await asyncio.create_subprocess_exec(
        sys.executable, *("-m", "echo_core.agents", "cto", "--autonomous", "--supervised"), env=environment
    )
    monitor, announcements = HealthMonitor(), Announcements(nowhere, name="monitor")
    assert not await announcements.publish("messages:cto", {})
    following = asyncio.create_task(follow_agent_status(monitor, announcements, database))
    try:
        sent = await publish(database, announcements, Message.compose("operator", "cto", "request", "Are you there?"))

        async def handled() -> bool:
            row = await database.fetch_one("delivery_state", {"role": "cto", "message_id": sent.id})
            return row is not None and row["state"] == "handled"

        await eventually(handled)
        await eventually(lambda: monitor.agent("cto").state in AT_WORK)
        # Its clock, or the database's, goes back by an hour: the next report counts all the same.
        async with database.session() as connection:
            await connection.execute("UPDATE agent_status SET last_heartbeat = last_heartbeat - interval '1 hour'")
        heard = monitor.agent("cto").heard_at
        await eventually(lambda: (monitor.agent("cto").heard_at or 0) > (heard or 0))
        monitor.tick()
        assert monitor.agent("cto").state in AT_WORK
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        agent.terminate()
        assert await agent.wait() == 0
        await announcements.close()


@asynccontextmanager
async def thinking_agent(settings: Settings, ollama: OllamaProcess) -> AsyncIterator[asyncio.subprocess.Process]:
    """A CTO whose mind is a model."""
    environment = {**os.environ, **replace(settings, llm="ollama", ollama_host=ollama.host).environment()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, *("-m", "echo_core.agents", "cto", "--autonomous", "--supervised"), env=environment
    )
    try:
        yield process
    finally:
        process.kill()
        await process.wait()


async def test_an_agent_whose_model_says_nothing_beats_and_is_stalled(
    settings: Settings, database: Database, redis_url: str, ollama_server: OllamaProcess
) -> None:
    await ollama_server.script({"kind": "slow", "seconds": 60, "times": 5})
    monitor = HealthMonitor(HealthPolicy(stalled_seconds=3.0))
    announcements = Announcements(redis_url, name="monitor")
    tasks = [asyncio.create_task(follow_heartbeats(monitor, announcements)), asyncio.create_task(watch(monitor))]
    try:
        async with thinking_agent(settings, ollama_server):
            health = monitor.agent("cto")
            await eventually(lambda: health.state is AgentState.HEALTHY)
            await publish(database, announcements, Message.compose("operator", "cto", "request", "Think!", "Hard."))
            await eventually(lambda: health.state is AgentState.BUSY)
            await eventually(lambda: health.state is AgentState.STALLED, timeout=20)
            assert not monitor.live("cto")
            age = monitor.age(health)
            assert age is not None
            assert age < monitor.policy.late_seconds, "it beats: only its message does not move"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await announcements.close()


async def test_what_the_breaker_of_a_model_does_is_an_event(
    settings: Settings, database: Database, redis_url: str, ollama_server: OllamaProcess
) -> None:
    await ollama_server.script({"kind": "500", "times": 20})
    announcements = Announcements(redis_url, name="sender")

    async def told() -> list[tuple[str, str]]:
        async with database.session() as connection:
            cursor = await connection.execute(
                "SELECT payload FROM events WHERE kind = 'breaker' AND payload ->> 'of' LIKE 'model:%' ORDER BY id"
            )
            return [(row["payload"]["from"], row["payload"]["to"]) for row in await cursor.fetchall()]

    async with thinking_agent(settings, ollama_server):
        for number in range(3):
            await publish(database, announcements, Message.compose("operator", "cto", "request", f"Question {number}"))
        await eventually(told, timeout=20)
        assert (await told())[0] == ("closed", "open")
    await announcements.close()
