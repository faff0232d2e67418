"""A conductor killed in every phase: the next one goes on from the database, and nothing is asked or counted twice."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from echo_core.bus.announcements import Announcements
from echo_core.settings import Settings
from echo_core.storage.database import Database
from echo_core.workflow.record import Phase
from tests.support.company import Company
from tests.support.eventually import eventually

ROLES = ("ceo", "chro", "cto")


@pytest.fixture
async def company(database_url: str, redis_url: str) -> AsyncIterator[Company]:
    database = Database(database_url, name="test")
    async with database.session() as connection:
        await connection.execute("UPDATE roles SET active = role = ANY(%s) WHERE NOT system", [list(ROLES)])
    announcements = Announcements(redis_url, name="test")
    async with Company(database, announcements, ROLES) as company:
        yield company
    await announcements.close()
    await database.close()


class Life:
    """A conductor as a process, life after life."""

    def __init__(self, settings: Settings) -> None:
        self._environment = {**os.environ, **settings.environment()}
        self._process: asyncio.subprocess.Process | None = None

    async def begin(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "echo_core.workflow", env=self._environment
        )

    async def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        await self._process.wait()

    async def end(self) -> int:
        assert self._process is not None
        self._process.terminate()
        return await self._process.wait()


@pytest.fixture
async def life(settings: Settings) -> AsyncIterator[Life]:
    life = Life(settings)
    await life.begin()
    yield life
    assert await life.end() == 0


async def test_killed_in_each_phase_it_goes_on_without_doubling(company: Company, life: Life) -> None:
    company.alive.discard("cto")
    decision = await company.open("Shall we?")

    async def running(phase: Phase) -> None:
        await company.reaches(
            decision, lambda r: r.phase == phase and r.phases[phase - 1].state == "running", f"phase {phase.name}"
        )

    await running(Phase.STARTUP)
    await life.kill()
    await life.begin()
    company.alive.add("cto")
    await running(Phase.BROADCAST)
    await life.kill()
    await life.begin()
    await company.receive_all()
    await company.answer_all(decision, "judge", 2)  # one of three has not answered when it dies
    await running(Phase.SELF_SELECTION)
    await life.kill()
    await life.begin()
    await company.answer_all(decision, "judge", 1)
    for _ in range(2):
        await eventually(lambda: company.asked(decision, "contribute"))
        await running(Phase.DISCUSSION)
        await life.kill()
        await life.begin()
        await company.answer_all(decision, "contribute", 3)
    await company.answer_all(decision, "vote", 3)
    await running(Phase.SYNTHESIS)
    await life.kill()
    await life.begin()
    await company.answer_all(decision, "synthesise", 1)
    record = await company.reaches(decision, lambda r: r.status != "pending", "an outcome")

    assert (record.status, [phase.state for phase in record.phases]) == ("approved", ["completed"] * 6)
    assert record.degraded == ()
    assert Counter((item.role, item.round) for item in record.contributions) == Counter(
        (role, number) for role in ROLES for number in (1, 2)
    )
    assert sorted(vote.role for vote in record.votes) == sorted(ROLES)
    async with company.database.session() as connection:
        asked = await (
            await connection.execute(
                "SELECT to_role, content ->> 'ask' AS ask, content ->> 'round' AS round, count(*) AS times FROM messages"
                " WHERE from_role = 'conductor' AND content ? 'ask' GROUP BY 1, 2, 3"
            )
        ).fetchall()
        transitions = await (
            await connection.execute(
                "SELECT payload ->> 'phase' AS phase, payload ->> 'state' AS state FROM events"
                " WHERE kind = 'phase' ORDER BY id"
            )
        ).fetchall()
    assert len(asked) == 3 + 3 * 2 + 3 + 1
    assert {row["times"] for row in asked} == {1}
    assert [(row["phase"], row["state"]) for row in transitions] == [
        (str(phase), state) for phase in range(1, 7) for state in ("running", "completed")
    ]


async def test_what_the_operator_said_while_no_conductor_ran_is_done_once_by_the_next(company: Company, life: Life) -> None:
    decision = await company.open(pace="step")
    await company.reaches(decision, lambda r: r.phases[1].state == "waiting", "the first wait")
    await life.kill()
    await company.say("speak", decision, text="Think of Friday")
    await company.say("auto", decision)
    await life.begin()
    company.answer_everything()
    record = await company.reaches(decision, lambda r: r.status != "pending", "an outcome")
    assert (record.status, record.pace) == ("approved", "auto")
    assert [item.text for item in record.contributions if item.role == "operator"] == ["Think of Friday"]
    async with company.database.session() as connection:
        said = await (await connection.execute("SELECT payload FROM events WHERE kind = 'operator' ORDER BY id")).fetchall()
    assert [row["payload"]["what"] for row in said] == ["speak", "auto"]
