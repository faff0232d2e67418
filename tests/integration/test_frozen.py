"""Processes that are frozen in the middle of something: what they hold becomes free again."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace

import psycopg
import pytest

from echo_core.errors import DatabaseUnavailable
from echo_core.settings import Settings
from echo_core.storage.database import Database
from tests.support.eventually import eventually

_IMPATIENT = """
import sys
import echo_core.workflow.conductor as conductor
from echo_core.workflow.__main__ import main
conductor.SILENT_SECONDS = 1.5
sys.exit(main())
"""


class Conductors:
    """Conductor processes of two machines, whose silence the server suffers for a second and a half only."""

    def __init__(self, settings: Settings) -> None:
        self.settings = [settings, replace(settings, data_dir=settings.data_dir / "second")]
        self.settings[1].prepare()
        self.processes: list[asyncio.subprocess.Process] = []

    async def begin(self, number: int) -> None:
        environment = {**os.environ, **self.settings[number].environment()}
        self.processes.append(await asyncio.create_subprocess_exec(sys.executable, "-c", _IMPATIENT, env=environment))

    def said(self, number: int) -> str:
        path = self.settings[number].logs_dir / "conductor.log"
        return path.read_text() if path.exists() else ""


@pytest.fixture
async def conductors(settings: Settings) -> AsyncIterator[Conductors]:
    conductors = Conductors(settings)
    yield conductors
    for process in conductors.processes:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        assert await process.wait() == 0


async def test_a_frozen_conductor_loses_its_lock_and_stands_by_when_it_goes_on(conductors: Conductors) -> None:
    await conductors.begin(0)
    await eventually(lambda: "lock     conducting" in conductors.said(0))
    await conductors.begin(1)
    await eventually(lambda: "standing by" in conductors.said(1))
    conductors.processes[0].send_signal(signal.SIGSTOP)
    await eventually(lambda: "lock     conducting" in conductors.said(1))
    conductors.processes[0].send_signal(signal.SIGCONT)
    await eventually(lambda: "standing by" in conductors.said(0))
    assert conductors.said(0).count("lost     ") == 1


async def test_who_freezes_in_a_transaction_keeps_its_rows_from_the_others_only_for_a_while(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("echo_core.storage.database._GUARDS", b"SET idle_in_transaction_session_timeout TO '300ms';")
    told: list[bool] = []
    database = Database(database_url, name="frozen", on_reachable=lambda up, why: told.append(up))

    async def freeze(other: psycopg.AsyncConnection) -> None:
        async with database.transaction() as connection:
            await connection.execute("SELECT * FROM roles WHERE role = 'cto' FOR UPDATE")
            # Waits for the row, and gets it: without an end put to the silent transaction it never would.
            await asyncio.wait_for(other.execute("UPDATE roles SET active = true WHERE role = 'cto'"), 20)
            await connection.execute("SELECT 1")

    async def is_back() -> bool:
        with suppress(DatabaseUnavailable):
            return await database.fetch_one("role_exists", {"role": "cto"}) == {"known": True}
        return False

    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as other:
        with pytest.raises(DatabaseUnavailable):
            await freeze(other)
    await eventually(is_back)
    assert told == [True, False, True]
    await database.close()
