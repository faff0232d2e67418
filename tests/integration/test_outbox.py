"""Sending while servers are away, while answers get lost, and while the sender itself is killed."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest

from echo_core.bus.announcements import Announcements
from echo_core.bus.message import Message
from echo_core.bus.outbox import ABANDONED_SECONDS, Outbox, send
from echo_core.logs import Log
from echo_core.services import EmbeddedServers
from echo_core.storage.database import Database, DatabaseLimits
from tests.support.eventually import eventually
from tests.support.link import Link

# Sends numbered messages with both servers away, saying after each that it is safe, until it is killed.
_SENDER = """
import asyncio, sys
from pathlib import Path
from echo_core.bus.announcements import Announcements
from echo_core.bus.message import Message
from echo_core.bus.outbox import Outbox, send
from echo_core.storage.database import Database

async def main() -> None:
    database = Database("postgresql://echo@127.0.0.1:1/echo", name="away")
    announcements = Announcements("redis://127.0.0.1:1", name="away")
    for number in range(100_000):
        message = Message.compose("operator", "cto", "notification", f"Said {number}", "Body")
        sent = await send(database, announcements, Outbox(Path(sys.argv[1])), message)
        print(number, "held" if sent.held else "stored", flush=True)

asyncio.run(main())
"""


@pytest.fixture
async def link(servers: EmbeddedServers) -> AsyncIterator[Link]:
    link = Link(str(servers.postgres.home.postgres_data / ".s.PGSQL.5432"))
    await link.start()
    yield link
    await link.close()


async def subjects(database: Database) -> list[str]:
    async with database.session() as connection:
        rows = await (await connection.execute("SELECT subject FROM messages ORDER BY id")).fetchall()
    return [row["subject"] for row in rows]


def note(subject: str) -> Message:
    return Message.compose("operator", "cto", "notification", subject, "Body")


async def test_what_a_killed_sender_was_told_is_safe_goes_out_once_and_in_order(
    database: Database, redis_url: str, tmp_path: Path
) -> None:
    folder = tmp_path / "outbox"
    sender = await asyncio.create_subprocess_exec(sys.executable, "-c", _SENDER, str(folder), stdout=asyncio.subprocess.PIPE)
    assert sender.stdout is not None
    said = [(await sender.stdout.readline()).decode().split() for _ in range(20)]
    sender.send_signal(signal.SIGKILL)
    said += [line.split() for line in (await sender.stdout.read()).decode().splitlines()]
    await sender.wait()
    assert {state for _, state in said} == {"held"}
    announcements = Announcements(redis_url, name="test")
    await Outbox(folder).drain(database, announcements)
    await announcements.close()
    stored = await subjects(database)
    # The one it was about to put when it died may be there too, whole; nothing else.
    assert stored == [f"Said {number}" for number in range(len(stored))]
    assert len(said) <= len(stored) <= len(said) + 1
    assert Outbox(folder).count() == 0


async def test_a_commit_whose_answer_got_lost_is_stored_once(
    database: Database, database_name: str, link: Link, tmp_path: Path
) -> None:
    far = Database(
        f"postgresql://echo@127.0.0.1:{link.port}/{database_name}", name="far", limits=DatabaseLimits(statement_seconds=0.5)
    )
    outbox = Outbox(tmp_path / "outbox")
    assert not (await send(far, None, outbox, note("Before"))).held
    link.deafen()
    message = note("Ambiguous")
    assert (await send(far, None, outbox, message)).held
    assert await subjects(database) == ["Before", "Ambiguous"], "it was stored: only the sender can't know"
    link.restore()
    link.cut()

    async def is_known() -> bool:
        await outbox.drain(far, None)
        return outbox.count() == 0

    await eventually(is_known)
    assert not (await send(far, None, outbox, note("After"))).held
    assert await subjects(database) == ["Before", "Ambiguous", "After"]
    await far.close()


async def test_a_database_that_takes_nothing_for_now_keeps_messages_waiting_instead_of_losing_them(
    database_url: str, admin_url: str, database_name: str, tmp_path: Path
) -> None:
    log = Log(tmp_path / "test.log")
    outbox = Outbox(tmp_path / "outbox", log=log)
    outbox.put(note("First"))
    outbox.put(note("Second"))
    async with await psycopg.AsyncConnection.connect(admin_url, autocommit=True) as admin:
        await admin.execute(f"ALTER DATABASE {database_name} SET default_transaction_read_only = on".encode())
        database = Database(database_url, name="read-only")
        assert await outbox.drain(database, None) == 0
        assert await outbox.drain(database, None) == 0
        await database.close()
        assert outbox.count() == 2
        await admin.execute("SET default_transaction_read_only = off")
        await admin.execute(f"ALTER DATABASE {database_name} RESET default_transaction_read_only".encode())
    database = Database(database_url, name="test")
    assert await outbox.drain(database, None) == 2
    assert await subjects(database) == ["First", "Second"]
    await database.close()
    assert (tmp_path / "test.log").read_text().count("read-only transaction") == 1


async def test_a_message_can_be_held_while_another_process_sends_those_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = Outbox(tmp_path / "outbox")
    outbox.put(note("First"))
    listed = outbox._files()
    listed[0].unlink()  # between the look at the folder and the look at its files
    monkeypatch.setattr(Outbox, "_files", lambda self: listed)
    outbox.put(note("Second"))
    monkeypatch.undo()
    assert outbox.count() == 1


async def test_the_order_of_held_messages_survives_a_clock_that_goes_back(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = Outbox(tmp_path / "outbox")
    now = itertools.count(time.time_ns(), -3600 * 10**9)
    monkeypatch.setattr("echo_core.bus.outbox.time.time_ns", lambda: next(now))
    for number in range(4):
        outbox.put(note(f"Held {number}"))
    await outbox.drain(database, None)
    assert await subjects(database) == [f"Held {number}" for number in range(4)]


async def test_what_a_killed_writer_left_half_done_is_swept_away_once_it_is_old(database: Database, tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox")
    outbox.put(note("Whole"))
    old, new = outbox.folder / "00000000000000000001-1-000000.tmp", outbox.folder / "00000000000000000002-1-000000.tmp"
    for path in (old, new):
        path.write_bytes(b'{"uid": "half')
    os.utime(old, (time.time() - ABANDONED_SECONDS - 60,) * 2)
    assert await outbox.drain(database, None) == 1
    assert not old.exists()
    assert new.exists(), "somebody may be writing it now"
