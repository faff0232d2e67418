from __future__ import annotations

import asyncio
import json
import socket
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
import redis.asyncio as redis
from psycopg.types.json import Jsonb

from echo_core.bus.announcements import Announcements
from echo_core.bus.message import Message
from echo_core.bus.outbox import Outbox, send
from echo_core.bus.publish import publish
from echo_core.bus.receive import Effects, ReceivePolicy, Receiver
from echo_core.errors import EchoError, InvalidMessage, UnknownRole
from echo_core.logs import Log
from echo_core.storage.database import Database
from tests.support.eventually import eventually

QUICK = ReceivePolicy(tick_seconds=0.2, renew_seconds=0.3, lease_seconds=1.0, backoff_seconds=0.02, attempts=3)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "test.log")


def note(to: str = "cto", subject: str = "Hello", **more: object) -> Message:
    return Message.compose("operator", to, "notification", subject, "Body", **more)  # type: ignore[arg-type]


@asynccontextmanager
async def receiving(
    database_url: str,
    redis_url: str,
    handle: Callable[[Message], Awaitable[Effects | None]],
    log: Log,
    *,
    role: str = "cto",
    owner: str = "cto-1@test:1",
    predecessors: str = "",
) -> AsyncIterator[Receiver]:
    """A receiver with connections of its own, like a process has; stopped at the end."""
    database = Database(database_url, name=owner, durable=False)
    announcements = Announcements(redis_url, name="receiver")
    receiver = Receiver(database, announcements, role, owner, handle, log, policy=QUICK, predecessors=predecessors)
    running = asyncio.create_task(receiver.run())
    try:
        yield receiver
    finally:
        receiver.stop(1.0)
        await running
        await announcements.close()
        await database.close()


async def states(database: Database, message: Message) -> dict[str, str]:
    async with database.session() as connection:
        cursor = await connection.execute("SELECT role, state FROM deliveries WHERE message_id = %s", [message.id])
        return {row["role"]: row["state"] for row in await cursor.fetchall()}


async def delivery(database: Database, message: Message, role: str = "cto") -> dict[str, object]:
    async with database.session() as connection:
        cursor = await connection.execute("SELECT * FROM deliveries WHERE message_id = %s AND role = %s", [message.id, role])
        row = await cursor.fetchone()
        assert row is not None
        return row


class Recorder:
    """A handler that remembers what it was given."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def __call__(self, message: Message) -> Effects | None:
        self.messages.append(message)
        return None

    @property
    def ids(self) -> list[int | None]:
        return [message.id for message in self.messages]


async def test_an_announcement_is_made_after_the_commit_and_names_the_row(
    database: Database, announcements: Announcements, redis_url: str
) -> None:
    client = redis.Redis.from_url(redis_url)
    pubsub = client.pubsub()
    await pubsub.subscribe("messages:cto")
    await pubsub.get_message(timeout=5)
    sent = await publish(database, announcements, note(subject="Dual write"))
    hint = await pubsub.get_message(timeout=5)
    await client.aclose()
    payload = json.loads(hint["data"])
    assert payload["db_id"] == sent.id
    assert payload["id"] == sent.uid
    assert (payload["from"], payload["to"], payload["type"]) == ("operator", "cto", "notification")
    assert payload["content"] == {"body": "Body"}
    assert "timestamp" in payload["metadata"]
    row = await database.fetch_one("message_by_id", {"id": payload["db_id"]})
    assert row is not None
    assert row["subject"] == "Dual write"


async def test_publishing_the_same_message_twice_stores_it_once(database: Database) -> None:
    message = note()
    first, second = await publish(database, None, message), await publish(database, None, message)
    assert first.id == second.id
    assert await states(database, first) == {"cto": "pending"}


async def test_an_unknown_recipient_is_refused_with_the_roles_there_are(database: Database) -> None:
    with pytest.raises(UnknownRole, match=r"unknown recipient \"nobody\".*cto"):
        await publish(database, None, note(to="nobody"))


async def test_a_row_typed_by_hand_reaches_the_agent_with_and_without_an_announcement(
    database_url: str, redis_url: str, database: Database, log: Log
) -> None:
    seen = Recorder()
    insert = (
        "INSERT INTO messages(from_role,to_role,type,subject,content) VALUES ('operator','cto','request',%s,%s) RETURNING id"
    )
    async with receiving(database_url, redis_url, seen, log):
        async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
            row = await (await connection.execute(insert, ["Announced", Jsonb({"body": "x"})])).fetchone()
            client = redis.Redis.from_url(redis_url)
            await client.publish("messages:cto", json.dumps({"db_id": row[0]}))
            await client.aclose()
            await connection.execute(insert, ["Silent", Jsonb("only text")])
        await eventually(lambda: len(seen.messages) == 2)
    assert [message.subject for message in seen.messages] == ["Announced", "Silent"]
    assert seen.messages[1].body == "only text"


async def test_every_recipient_of_a_broadcast_has_a_delivery_of_its_own(
    database_url: str, redis_url: str, database: Database, log: Log
) -> None:
    cto, ceo = Recorder(), Recorder()
    async with (
        receiving(database_url, redis_url, cto, log),
        receiving(database_url, redis_url, ceo, log, role="ceo", owner="ceo-1@test:2"),
    ):
        sent = await publish(database, None, note(to="all"))
        await eventually(lambda: cto.ids == [sent.id] == ceo.ids)
    found = await states(database, sent)
    assert found["cto"] == found["ceo"] == "handled"
    assert found["chro"] == "pending"
    assert "operator" not in found


async def test_two_instances_of_a_role_share_the_work_and_handle_nothing_twice(
    database_url: str, redis_url: str, database: Database, log: Log
) -> None:
    seen = Recorder()

    async def slowly(message: Message) -> Effects:
        seen.messages.append(message)
        await asyncio.sleep(0.001)
        return Effects((Message.compose("cto", "operator", "notification", f"Done {message.id}"),))

    sent = [await publish(database, None, note(subject=f"Work {number}")) for number in range(60)]
    async with (
        receiving(database_url, redis_url, slowly, log),
        receiving(database_url, redis_url, slowly, log, owner="cto-2@test:2"),
    ):
        await eventually(lambda: len(seen.messages) >= len(sent))
    assert sorted(seen.ids) == [message.id for message in sent]  # type: ignore[type-var]
    async with database.session() as connection:
        row = await (await connection.execute("SELECT count(*) AS n FROM messages WHERE from_role = 'cto'")).fetchone()
        owners = await (await connection.execute("SELECT DISTINCT claimed_by FROM deliveries WHERE role = 'cto'")).fetchall()
    assert row == {"n": 60}
    assert len(owners) == 2


async def test_a_message_in_the_hands_of_a_crashed_agent_is_taken_by_its_next_life(
    database_url: str, redis_url: str, database: Database, log: Log
) -> None:
    sent = await publish(database, None, note())
    claim = {"role": "cto", "owner": "cto-1@test:dead", "limit": 5, "lease_seconds": 0.3}
    assert len(await database.fetch_all("claim_deliveries", claim)) == 1
    seen = Recorder()
    async with receiving(database_url, redis_url, seen, log):
        await eventually(lambda: seen.ids == [sent.id])
    row = await delivery(database, sent)
    assert (row["state"], row["attempts"], row["claimed_by"]) == ("handled", 2, "cto-1@test:1")


async def test_what_an_earlier_life_had_in_hand_does_not_wait_for_its_lease(
    database_url: str, redis_url: str, database: Database, log: Log
) -> None:
    sent = await publish(database, None, note())
    claim = {"role": "cto", "owner": "cto-1@test:dead", "limit": 5, "lease_seconds": 3600}
    assert len(await database.fetch_all("claim_deliveries", claim)) == 1
    seen = Recorder()
    async with receiving(database_url, redis_url, seen, log, predecessors="cto-1@test:"):
        await eventually(lambda: seen.ids == [sent.id])


async def test_effects_and_acknowledgement_are_stored_together_or_not_at_all(
    database_url: str, redis_url: str, database: Database, log: Log
) -> None:
    good = Message.compose("cto", "operator", "notification", "Effect")

    async def half_wrong(message: Message) -> Effects:
        return Effects((good, Message.compose("cto", "nobody", "notification", "Refused")))

    async with receiving(database_url, redis_url, half_wrong, log):
        sent = await publish(database, None, note())

        async def is_dead() -> bool:
            return (await delivery(database, sent))["state"] == "dead"

        await eventually(is_dead)
    assert await database.fetch_one("message_by_uid", {"uid": good.uid}) is None
    assert "unknown recipient" in str((await delivery(database, sent))["error"])


async def test_an_agent_that_lost_its_lease_stores_nothing(
    database_url: str, redis_url: str, database: Database, log: Log
) -> None:
    effect = Message.compose("cto", "operator", "notification", "Too late")

    async def robbed(message: Message) -> Effects:
        async with database.session() as connection:
            await connection.execute(
                "UPDATE deliveries SET claimed_by = 'cto-2@test:9', attempts = attempts + 1 WHERE message_id = %s",
                [message.id],
            )
        return Effects((effect,))

    async with receiving(database_url, redis_url, robbed, log):
        await publish(database, None, note())
        assert log.path is not None
        path = log.path
        await eventually(lambda: path.exists() and "lost     lease of" in path.read_text())
        assert await database.fetch_one("message_by_uid", {"uid": effect.uid}) is None


async def test_a_failing_handler_leads_to_a_dead_letter_with_its_error_which_can_be_retried(
    database_url: str, redis_url: str, database: Database, log: Log
) -> None:
    broken = True
    calls = 0

    async def handle(message: Message) -> Effects | None:
        nonlocal calls
        calls += 1
        if broken:
            raise ValueError("cannot think of\nan answer")
        return None

    async with receiving(database_url, redis_url, handle, log):
        sent = await publish(database, None, note())

        async def dead() -> list[dict[str, object]]:
            return await database.fetch_all("messages_dead")

        await eventually(dead)
        (row,) = await dead()
        assert calls == QUICK.attempts
        assert row["error"] == "ValueError: cannot think of\\nan answer"
        assert await database.fetch_one("delivery_counts") == {"pending": 0, "dead": 1}
        broken = False
        await database.fetch_all("retry_dead", {"message_id": sent.id, "role": None})

        async def is_handled() -> bool:
            return (await states(database, sent))["cto"] == "handled"

        await eventually(is_handled)
    assert await database.fetch_one("delivery_counts") == {"pending": 0, "dead": 0}


async def test_a_message_that_ends_every_process_that_takes_it_becomes_a_dead_letter(
    database_url: str, redis_url: str, database: Database, log: Log
) -> None:
    poison, innocent = await publish(database, None, note()), await publish(database, None, note(subject="Innocent"))
    for life in range(QUICK.attempts):
        claim = {"role": "cto", "owner": f"cto-1@test:{life}", "limit": 32, "lease_seconds": 0}
        assert poison.id in [row["id"] for row in await database.fetch_all("claim_deliveries", claim)]
    seen = Recorder()
    async with receiving(database_url, redis_url, seen, log):
        await eventually(lambda: seen.ids == [innocent.id])
    row = await delivery(database, poison)
    assert row["state"] == "dead"
    assert "without a trace" in str(row["error"])
    assert (await delivery(database, innocent))["attempts"] == 2


async def test_garbage_announcements_are_counted_logged_once_per_kind_and_ignored(
    database_url: str, redis_url: str, database: Database, announcements: Announcements, log: Log
) -> None:
    seen = Recorder()
    async with receiving(database_url, redis_url, seen, log) as receiver:
        await eventually(lambda: receiver.announcements.reachable)
        other = await publish(database, None, note(to="ceo"))
        client = redis.Redis.from_url(redis_url)
        garbage: list[bytes] = [
            b"not json",
            b"\xff\xfe",
            b"[" * 100_000,
            b'{"db_id": "7"}',
            b'{"db_id": true}',
            b"[]",
            b'{"db_id": 1e400}',
            b'{"db_id": ' + b"9" * 5000 + b"}",
            b'{"db_id": 99999999}',
            b'{"db_id": 5, "metadata": 7}',
            b"x" * 10_000_000,
            json.dumps({"db_id": other.id}).encode(),
        ]
        for data in [*garbage, b"not json again"]:
            await client.publish("messages:cto", data)
        kinds = {
            "not JSON",
            "nested too deeply",
            "not an object",
            "no usable db_id",
            "too large",
            "wrong types",
            "unknown db_id",
            "db_id owed to somebody else",
        }
        await eventually(lambda: kinds <= set(receiver.hints.ignored))
        sent = await publish(database, None, note(subject="True"))
        forged = {**sent.payload(), "subject": "Forged"}
        await client.publish("messages:cto", json.dumps(forged))
        await client.aclose()
        await eventually(lambda: seen.ids == [sent.id])
        assert receiver.hints.ignored["not JSON"] >= 2
    assert seen.messages[0].subject == "True"
    assert log.path is not None
    assert log.path.read_text().count("ignored  not JSON") == 1


async def test_stopping_gives_back_what_is_not_finished_within_the_grace(
    database_url: str, redis_url: str, database: Database, log: Log
) -> None:
    begun = asyncio.Event()

    async def forever(message: Message) -> Effects | None:
        begun.set()
        await asyncio.Event().wait()
        return None

    sent = await publish(database, None, note())
    async with receiving(database_url, redis_url, forever, log) as receiver:
        await asyncio.wait_for(begun.wait(), 10)
        receiver.stop(0.1)
    row = await delivery(database, sent)
    assert (row["state"], row["attempts"], row["claimed_by"]) == ("pending", 0, None)


def _nobody_listens() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"postgresql://echo@127.0.0.1:{listener.getsockname()[1]}/echo"


async def test_what_is_said_while_postgresql_is_away_is_held_and_sent_once_in_order_when_it_is_back(
    database: Database, tmp_path: Path
) -> None:
    folder = tmp_path / "outbox"
    away = Database(_nobody_listens(), name="away")
    messages = [note(subject=f"Held {number}") for number in range(5)]
    for message in messages:
        assert (await send(away, None, Outbox(folder), message)).held
    assert Outbox(folder).count() == 5
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.glob("*.json"))
    # The sender crashed after the first was stored, before its file was removed: the uid tells.
    await publish(database, None, messages[0])
    last = await send(database, None, Outbox(folder), note(subject="Held 5"))
    assert not last.held
    assert Outbox(folder).count() == 0
    async with database.session() as connection:
        rows = await (await connection.execute("SELECT subject FROM messages ORDER BY id")).fetchall()
    assert [row["subject"] for row in rows] == [f"Held {number}" for number in range(6)]


async def test_a_held_message_that_cannot_be_read_or_is_refused_is_set_aside_and_stops_nothing(
    database: Database, tmp_path: Path, log: Log
) -> None:
    outbox = Outbox(tmp_path / "outbox", log=log)
    outbox.put(note(to="nobody"))
    outbox.put(note())
    (outbox.folder / "00000000000000000001-1-000000.json").write_bytes(b"{half a mess")
    assert await outbox.drain(database, None) == 1
    assert outbox.count() == 0
    assert len(list(outbox.folder.glob("*.bad"))) == 2


async def test_a_full_outbox_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("echo_core.bus.outbox.MAXIMUM_MESSAGES", 2)
    outbox = Outbox(tmp_path / "outbox")
    outbox.put(note())
    outbox.put(note())
    with pytest.raises(EchoError, match="outbox is full"):
        outbox.put(note())


async def test_only_one_process_drains_at_a_time(database: Database, tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox")
    for number in range(10):
        outbox.put(note(subject=f"{number}"))
    sent = await asyncio.gather(*(Outbox(outbox.folder).drain(database, None) for _ in range(3)))
    assert sorted(sent) == [0, 0, 10]


async def test_redis_away_loses_nothing_and_is_reported_once(
    database_url: str, database: Database, log: Log, tmp_path: Path
) -> None:
    told: list[tuple[bool, str]] = []
    nowhere = Announcements(f"unix://{tmp_path}/none.sock", name="test", on_reachable=lambda up, why: told.append((up, why)))
    seen = Recorder()
    async with receiving(database_url, f"unix://{tmp_path}/none.sock", seen, log):
        sent = await publish(database, nowhere, note())
        assert not await nowhere.publish("messages:cto", {})
        await eventually(lambda: seen.ids == [sent.id])
    assert [up for up, _ in told] == [False]
    await nowhere.close()


@pytest.mark.parametrize(
    ("subject", "body"),
    [("", "b"), ("  ", "b"), ("s", "nul \x00"), ("s", "half \ud800"), ("s", "x" * 65_537), ("s" * 501, "b")],
)
def test_a_message_that_cannot_be_stored_is_refused_before_it_is_sent(subject: str, body: str) -> None:
    with pytest.raises(InvalidMessage):
        Message.compose("operator", "cto", "request", subject, body)


def test_a_message_survives_its_way_through_the_outbox() -> None:
    message = note(decision_id=str(uuid.uuid4()), in_reply_to=7, metadata={"k": ["v"]})
    assert Message.from_json(json.loads(json.dumps(message.to_json()))) == message
