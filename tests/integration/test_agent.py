from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
import redis.asyncio as redis

from echo_core.bus.announcements import Announcements
from echo_core.bus.message import Message
from echo_core.bus.publish import publish
from echo_core.services import EmbeddedServers
from echo_core.settings import Settings
from echo_core.storage.database import Database
from tests.support.eventually import eventually

Start = Callable[..., Awaitable[asyncio.subprocess.Process]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts `python -m echo_core.agents`; what still runs at the end is killed, by its own id."""
    started: list[asyncio.subprocess.Process] = []

    async def begin(settings: Settings, *arguments: str) -> asyncio.subprocess.Process:
        environment = {**os.environ, **settings.environment(), "ECHO_LLM": "off"}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "echo_core.agents",
            *arguments,
            env=environment,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def log_of(settings: Settings, name: str = "cto") -> str:
    path = settings.logs_dir / f"{name}.log"
    return path.read_text() if path.exists() else ""


def said(settings: Settings, text: str, name: str = "cto") -> Callable[[], bool]:
    return lambda: text in log_of(settings, name)


async def answers(database: Database, message: Message) -> list[Message]:
    async with database.session() as connection:
        cursor = await connection.execute("SELECT * FROM messages WHERE in_reply_to = %s ORDER BY id", [message.id])
        return [Message.from_row(row) for row in await cursor.fetchall()]


async def test_an_agent_starts_without_any_server_says_what_it_lacks_and_stops_when_told(
    data_dir: Path, start: Start
) -> None:
    settings = Settings.load(data_dir=data_dir, environ={})
    process = await start(settings, "cto", "--autonomous")
    await eventually(
        lambda: "PostgreSQL can't be reached" in log_of(settings) and "Redis can't be reached" in log_of(settings)
    )
    assert "ready    handler started" in log_of(settings)
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0
    lines = log_of(settings).splitlines()
    assert "INFO  stopped" in lines[-1]
    assert sum("PostgreSQL can't be reached" in line for line in lines) == 1


async def test_an_agent_answers_a_request_beats_and_says_goodbye(
    settings: Settings, start: Start, database: Database, announcements: Announcements, redis_url: str
) -> None:
    client = redis.Redis.from_url(redis_url)
    pubsub = client.pubsub()
    await pubsub.subscribe("agents:heartbeat")
    process = await start(settings, "cto", "--autonomous", "--instance", "2", "--supervised")
    await eventually(said(settings, "Redis is there", "cto-2"))
    request = await publish(
        database, announcements, Message.compose("operator", "cto", "request", "Database migration?", "Shall we?")
    )
    (answer,) = await eventually(lambda: answers(database, request))
    assert (answer.from_role, answer.to_role, answer.type) == ("cto", "operator", "response")
    assert answer.body
    await eventually(said(settings, f"sent     #{answer.id} response to operator", "cto-2"))
    assert f"recv     #{request.id} request from operator: Database migration?" in log_of(settings, "cto-2")
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0
    assert log_of(settings, "cto-2").splitlines()[-1].split()[2] == "stopped"
    beats = []

    async def heard_goodbye() -> bool:
        hint = await pubsub.get_message(ignore_subscribe_messages=True, timeout=1)
        if hint is not None:
            beats.append(json.loads(hint["data"]))
        return bool(beats) and beats[-1]["state"] == "stopped"

    await eventually(heard_goodbye)
    await client.aclose()
    assert {(beat["role"], beat["instance"], beat["pid"]) for beat in beats} == {("cto", 2, process.pid)}
    assert beats[-1]["progress"] > beats[0]["progress"]
    async with database.session() as connection:
        row = await (await connection.execute("SELECT status FROM agent_status WHERE role = 'cto'")).fetchone()
    assert row == {"status": "stopped"}


async def test_an_agent_takes_its_part_in_a_decision_on_record(
    settings: Settings, start: Start, database: Database, announcements: Announcements
) -> None:
    await start(settings, "ceo", "--autonomous", "--supervised")
    question = {"subject": "Migrate the database?", "body": "Architecture and security risk.", "mode": "collaborative"}
    broadcast = await publish(
        database, announcements, Message.compose("operator", "all", "request", question["subject"], question["body"])
    )

    async def ask(name: str, **content: object) -> Message:
        request = Message.compose(
            "conductor",
            "ceo",
            "request",
            question["subject"],
            content={"ask": name, "question": question, **content},
            decision_id=broadcast.decision_id,
        )
        sent = await publish(database, announcements, request)
        (answer,) = await eventually(lambda: answers(database, sent), what=f"an answer to {name}")
        assert (answer.to_role, answer.decision_id) == ("conductor", broadcast.decision_id)
        return answer

    judgement = await ask("judge")
    assert judgement.content["answer"] == "judgement"
    contribution = await ask("contribute", round=1)
    assert (contribution.content["answer"], contribution.content["round"]) == ("contribution", 1)
    assert contribution.content["text"]
    vote = await ask("vote", round=1)
    assert vote.content["vote"] in ("approve", "reject", "abstain")
    tally = {"score": 0.8, "threshold": 0.6, "quorum_reached": True, "verdict": "approved"}
    outcome = await ask("synthesise", tally=tally)
    assert outcome.content["answer"] == "outcome"
    assert outcome.content["summary"]
    async with database.session() as connection:
        stances = await (await connection.execute("SELECT role, stance, source FROM participations")).fetchall()
        votes = await (await connection.execute("SELECT voter_role, round, vote FROM decision_votes")).fetchall()
    assert stances == [{"role": "ceo", "stance": judgement.content["stance"], "source": judgement.content["source"]}]
    assert votes == [{"voter_role": "ceo", "round": 1, "vote": vote.content["vote"]}]
    assert {"recv", "noted", "judge", "speak", "vote", "synth", "sent"} <= {
        line.split()[2] for line in log_of(settings, "ceo").splitlines()
    }


async def test_an_escalation_goes_up_the_line_to_the_operator(
    settings: Settings, start: Start, database: Database, announcements: Announcements
) -> None:
    await start(settings, "ceo", "--autonomous", "--supervised")
    await start(settings, "cto", "--autonomous", "--supervised")
    sent = await publish(
        database, announcements, Message.compose("senior_architect", "cto", "escalation", "Too large for me", "Help")
    )
    (to_ceo,) = await eventually(lambda: answers(database, sent))
    (to_operator,) = await eventually(lambda: answers(database, to_ceo))
    assert (to_ceo.to_role, to_operator.to_role, to_operator.body) == ("ceo", "operator", "Help")
    assert to_operator.metadata["path"] == ["senior_architect", "cto", "ceo"]


async def test_a_killed_agent_s_next_life_goes_on_with_what_is_owed(
    settings: Settings, start: Start, database: Database, announcements: Announcements
) -> None:
    process = await start(settings, "cto", "--autonomous", "--supervised")
    await eventually(said(settings, "PostgreSQL is there"))
    process.kill()
    await process.wait()
    request = await publish(database, announcements, Message.compose("operator", "cto", "request", "Are you there?"))
    await start(settings, "cto", "--autonomous", "--supervised")
    assert len(await eventually(lambda: answers(database, request))) == 1


async def test_an_agent_works_without_a_log_it_can_write(
    settings: Settings, start: Start, database: Database, announcements: Announcements
) -> None:
    (settings.logs_dir / "cto.log").mkdir()
    process = await start(settings, "cto", "--autonomous", "--supervised")
    request = await publish(database, announcements, Message.compose("operator", "cto", "request", "Are you there?"))
    assert len(await eventually(lambda: answers(database, request))) == 1
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0


async def test_a_role_nobody_knows_and_a_name_already_taken_are_one_line_each(settings: Settings, start: Start) -> None:
    unknown = await start(settings, "juggler", "--autonomous")
    _, error = await unknown.communicate()
    assert unknown.returncode == 2
    assert error.decode().count("\n") == 1
    assert "juggler" in error.decode()
    first = await start(settings, "cto", "--autonomous")
    await eventually(said(settings, "ready"))
    second = await start(settings, "cto", "--autonomous")
    _, error = await second.communicate()
    assert second.returncode == 75
    assert error.decode().count("\n") == 1
    lock = json.loads((settings.run_dir / "cto.lock").read_text())
    assert lock["pid"] == first.pid


async def test_every_breaker_transition_inside_an_agent_is_an_event_also_those_of_an_outage(
    settings: Settings, start: Start, database: Database, servers: EmbeddedServers
) -> None:
    """PostgreSQL ends the agent's connection while nobody may connect."""
    await start(settings, "cto", "--autonomous", "--supervised")
    await eventually(said(settings, "PostgreSQL is there"))
    await eventually(said(settings, "Redis is there"))
    name = settings.database_url.partition("?")[0].rpartition("/")[2]
    async with await psycopg.AsyncConnection.connect(servers.postgres.url("postgres", "postgres"), autocommit=True) as admin:
        await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'.encode())
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = %s AND application_name LIKE 'echo cto%%'",
            [name],
        )
        await eventually(said(settings, "PostgreSQL can't be reached"))
        await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'.encode())
    await eventually(lambda: log_of(settings).count("PostgreSQL is there") == 2)
    assert log_of(settings).count("PostgreSQL can't be reached") == 1, (
        "said once when it begins, whatever is tried meanwhile"
    )

    async def chain() -> list[tuple[str, str]]:
        async with database.session() as connection:
            cursor = await connection.execute(
                "SELECT payload FROM events WHERE kind = 'breaker' AND role = 'cto' AND payload ->> 'of' = 'postgresql'"
                " ORDER BY id"
            )
            return [(row["payload"]["from"], row["payload"]["to"]) for row in await cursor.fetchall()]

    async def closed_again() -> bool:
        return (await chain())[-1:] == [("half-open", "closed")]

    await eventually(closed_again)
    found = await chain()
    assert found[0] == ("closed", "open")
    assert all(before[1] == after[0] for before, after in itertools.pairwise(found))
