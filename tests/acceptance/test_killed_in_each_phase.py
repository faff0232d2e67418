"""One part after another killed in each of the six phases of a decision: it goes on from where it stood.

That a kill hits its phase is arranged, not hoped for: the conductor is held (SIGSTOP) while the question is put, one receipt
is put off in the database, and in the later phases one of those that are asked is held until the kill has happened.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from echo_core.bus.announcements import Announcements
from echo_core.bus.message import Message
from echo_core.bus.publish import announce, insert_message, publish
from echo_core.errors import DatabaseUnavailable
from echo_core.services import EmbeddedServers
from echo_core.settings import Settings
from echo_core.storage.database import Database
from echo_core.supervisor.child import lock_holder
from echo_core.supervisor.client import SupervisorClient
from echo_core.workflow.commands import command
from echo_core.workflow.ledger import load_decision
from echo_core.workflow.record import DecisionRecord, Phase
from tests.chaos.audit import audit
from tests.support.command_line import PROGRAM, EchoTui
from tests.support.eventually import eventually
from tests.support.processes import end_all, processes_of
from tests.support.servers import new_data_dir, remove_data_dir
from tests.support.terminal import Terminal

ROLES = ("ceo", "cto", "chro")
SECONDS = 60.0  # generous: the machine may be busy with something else
SERVERS = ("postgresql", "valkey")


@dataclass(slots=True)
class Organisation:
    """Three agents on servers of their own, as whoever sits before the machine reaches them."""

    echo: EchoTui
    settings: Settings
    client: SupervisorClient
    database: Database
    announcements: Announcements
    url: str
    crashes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ROLES, 0))

    def pid(self, name: str) -> int | None:
        if name in SERVERS:
            servers = EmbeddedServers(self.settings)
            return servers.postgres_pid() if name == "postgresql" else servers.valkey_pid()
        holder = lock_holder(self.settings.run_dir / f"{name}.lock")
        return holder.pid if holder else None

    def signal(self, name: str, number: signal.Signals) -> None:
        pid = self.pid(name)
        assert pid is not None, f"{name} does not run"
        os.kill(pid, number)

    async def kill(self, name: str) -> Callable[[], Awaitable[None]]:
        """Returns what waits until it is there again."""
        before = self.pid(name)
        self.signal(name, signal.SIGKILL)
        self.crashes[name] = self.crashes.get(name, 0) + 1

        async def is_back() -> None:
            if name == "supervisor":
                await self.client.connect()  # what every client does
            await eventually(lambda: self.pid(name) not in (before, None), SECONDS, f"{name} is back")

        return is_back

    async def forget_crashes(self) -> None:
        """By a new supervisor: the waits before the next restarts are short again."""
        await (await self.kill("supervisor"))()

    async def all_are_well(self) -> None:
        async def well() -> bool:
            return {agent.state for agent in (await self.client.status()).agents} <= {"healthy", "busy"}

        await eventually(well, SECONDS, "every agent is well")

    async def find(self, statement: str, *parameters: Any) -> list[dict[str, Any]]:
        async with self.database.session() as connection:
            return await (await connection.execute(statement.encode(), parameters)).fetchall()

    async def reaches(self, identity: str, check: Callable[[DecisionRecord], bool], what: str) -> DecisionRecord:
        """Also while PostgreSQL is away."""

        async def reached() -> DecisionRecord | None:
            try:
                record = await load_decision(self.database, identity)
            except DatabaseUnavailable:
                return None
            return record if check(record) else None

        record = await eventually(reached, SECONDS, what)
        assert record is not None
        return record


@pytest.fixture(scope="module")
def echo() -> Iterator[EchoTui]:
    place = new_data_dir()
    echo = EchoTui(place, ("--delay", "0", "--roster", ",".join(ROLES)))
    try:
        said = echo("up")
        assert said.code == 0, said.err
        yield echo
        said = echo("stop")
        assert said.code == 0, said.err
        assert processes_of(place) == []
    finally:
        end_all(place)
        remove_data_dir(place)


@pytest.fixture
async def organisation(echo: EchoTui) -> AsyncIterator[Organisation]:
    settings = Settings.load(data_dir=echo.data_dir, delay=0, roster=",".join(ROLES), environ={"ECHO_LLM": "off"})
    client = SupervisorClient(settings)
    await client.connect()
    snapshot = await client.status()
    database, announcements = Database(snapshot.database_url, name="test"), Announcements(snapshot.redis_url, name="test")
    try:
        yield Organisation(echo, settings, client, database, announcements, snapshot.database_url)
    finally:
        for role in (*ROLES, "conductor"):  # none stays held when a test has failed
            if (pid := lock_holder(settings.run_dir / f"{role}.lock")) is not None:
                os.kill(pid.pid, signal.SIGCONT)
        await announcements.close()
        await database.close()


class Walk:
    """One decision, step by step, with a kill in the middle of each phase."""

    def __init__(self, organisation: Organisation, victim: str) -> None:
        self.organisation = organisation
        self.victim = victim
        self.identity, self.number = "", 0

    async def advance(self, phase: int) -> None:
        said = command("advance", self.identity, phase=phase, state="waiting")
        await publish(self.organisation.database, self.organisation.announcements, said)

    async def strike(self, phase: int, held: str) -> Callable[[], Awaitable[None]]:
        """Kill; `held` is the agent on which the phase waits. Returns what waits until it is back."""
        return await self.organisation.kill(held if self.victim == "agent" else self.victim)

    async def finish(self) -> None:
        """The last phase was struck; what is left to do by whoever follows the decision."""

    async def whole(self) -> DecisionRecord:
        question, late = await self._begin()
        struck = {1}
        while (record := await self._stands()).status == "pending":
            phase = record.phase
            if self.victim == "agent":
                await self.organisation.all_are_well()
            if phase in struck:  # without a consensus it comes through the same phases again
                await self.advance(phase)
                await self._leaves(phase)
            elif phase == Phase.BROADCAST:
                await self._in_broadcast(question, late)
            else:
                await self._in_a_phase_of_answers(phase, self._one_asked(record))
            struck.add(phase)
        assert struck == set(Phase), "it ended before every phase was struck"
        return record

    async def _begin(self) -> tuple[Message, str]:
        """The question is stored and nobody has conducted it yet when the kill comes. One receipt is put off."""
        here = self.organisation
        late = min(ROLES[1:], key=lambda role: here.crashes[role])
        message = Message.compose(
            "operator",
            "all",
            "request",
            f"Should we migrate our billing database, though the {self.victim} dies?",
            "It costs $40,000 and takes two engineers.",
            content={"pace": "step"},
        )
        here.signal("conductor", signal.SIGSTOP)
        async with here.database.transaction() as connection:
            question = await insert_message(connection, message)
            await connection.execute(
                "UPDATE deliveries SET next_attempt_at = now() + interval '1 hour' WHERE message_id = %s AND role = %s",
                [question.id, late],
            )
        assert question.decision_id is not None
        assert question.id is not None
        self.identity, self.number = question.decision_id, question.id
        await announce(here.announcements, question)
        back = await self.strike(1, late)
        if self.victim != "conductor":
            here.signal("conductor", signal.SIGCONT)
        await back()
        return question, late

    async def _in_broadcast(self, question: Message, late: str) -> None:
        await self.advance(2)
        await self._runs(2)
        await (await self.strike(2, late))()

        async def due() -> bool:
            try:
                await self.organisation.find(
                    "UPDATE deliveries SET next_attempt_at = now() WHERE message_id = %s AND role = %s RETURNING role",
                    question.id,
                    late,
                )
            except DatabaseUnavailable:
                return False
            return True

        await eventually(due, SECONDS, "what was put off is due")
        await announce(self.organisation.announcements, question)

    async def _in_a_phase_of_answers(self, phase: int, held: str) -> None:
        here = self.organisation
        if self.victim == "conductor" and phase == Phase.DISCUSSION:
            await here.forget_crashes()
        here.signal(held, signal.SIGSTOP)
        await self.advance(phase)
        await self._runs(phase)
        back = await self.strike(phase, held)
        if self.victim != "agent":
            here.signal(held, signal.SIGCONT)
        if phase == Phase.SYNTHESIS:
            await self.finish()
        await back()

    def _one_asked(self, record: DecisionRecord) -> str:
        """Of those whose answer the phase needs, one with as few crashes as possible, so that it is soon back."""
        if record.phase == Phase.SYNTHESIS:
            return "ceo"
        asked = ROLES if record.phase == Phase.SELF_SELECTION else record.participants
        return min(asked, key=lambda role: self.organisation.crashes[role])

    async def _runs(self, phase: int) -> None:
        await self.organisation.reaches(
            self.identity, lambda r: r.phase == phase and r.phases[phase - 1].state == "running", f"phase {phase} runs"
        )

    async def _leaves(self, phase: int) -> None:
        await self.organisation.reaches(
            self.identity, lambda r: (r.phase, r.phases[phase - 1].state) != (phase, "waiting"), f"phase {phase} is begun"
        )

    async def _stands(self) -> DecisionRecord:
        return await self.organisation.reaches(
            self.identity,
            lambda r: r.status != "pending" or r.phases[r.phase - 1].state == "waiting",
            "the decision waits for the operator, or has ended",
        )


class ConductorWalk(Walk):
    """Its end is followed by `run --resume` instead."""

    async def finish(self) -> None:
        said = self.organisation.echo("run", "--resume", self.identity, "--json")
        assert said.code in (0, 3), said.err
        assert said.json["decision_id"] == self.identity
        assert said.json["status"] in ("approved", "rejected", "escalated")


class RoomWalk(Walk):
    """Whoever steps sits in a control room, which is killed; the next one shows the decision where it stood."""

    def __init__(self, organisation: Organisation, rooms: ExitStack) -> None:
        super().__init__(organisation, "control room")
        self._rooms = rooms
        self._room: Terminal | None = None

    async def open(self) -> Terminal:
        arguments = [str(PROGRAM), "--data-dir", str(self.organisation.settings.data_dir), *self.organisation.echo.options]
        self._room = self._rooms.enter_context(Terminal(arguments, environment=self.organisation.echo.environment))
        return self._room

    async def advance(self, phase: int) -> None:
        room = self._room or await self.open()
        await room.until(
            lambda: any(f"▲ {phase} " in row and "press n" in row for row in room.rows()), SECONDS, f"phase {phase} is next"
        )
        room.press("n")

    async def strike(self, phase: int, held: str) -> Callable[[], Awaitable[None]]:
        room = self._room or await self.open()
        await room.until(lambda: f"#{self.number} " in room.rows()[0], SECONDS, "the decision in the header")
        room.send_signal(signal.SIGKILL)
        assert await room.exit_code() == -signal.SIGKILL
        self._room = None

        async def is_back() -> None:
            """Opened again when it is needed."""

        return is_back


@pytest.mark.parametrize("victim", ["supervisor", "conductor", "agent", *SERVERS])
async def test_what_is_killed_in_each_phase_costs_the_decision_nothing(organisation: Organisation, victim: str) -> None:
    walk = (ConductorWalk if victim == "conductor" else Walk)(organisation, victim)
    await nothing_lost_or_doubled(organisation, await walk.whole())


async def test_a_control_room_killed_in_each_phase_is_followed_by_one_that_goes_on_from_there(
    organisation: Organisation,
) -> None:
    with ExitStack() as rooms:
        await nothing_lost_or_doubled(organisation, await RoomWalk(organisation, rooms).whole())


async def nothing_lost_or_doubled(organisation: Organisation, record: DecisionRecord) -> None:
    """What the database says of this decision, when what was late has come; then of everything on record."""
    assert record.status in ("approved", "rejected", "escalated"), record
    await eventually(lambda: all_is_handled(organisation), SECONDS, "every delivery to an agent is handled")
    mine = record.id
    for what, statement in TWICE.items():
        assert await organisation.find(statement, mine) == [], what
    assert await organisation.find(UNANSWERED, mine) == []
    began = [row["phase"] for row in await organisation.find(BEGAN, mine)]
    assert sorted(set(began)) == [*Phase]
    assert began[:3] == [1, 2, 3]
    assert began.count(6) == 1
    await ends_short_for_a_reason(organisation, await load_decision(organisation.database, mine))
    findings = await audit(organisation.url, [], {})
    assert [said for said in findings.sentences if "timeline of health" not in said] == []


async def all_is_handled(organisation: Organisation) -> bool:
    try:
        left = await organisation.find("SELECT * FROM deliveries WHERE role <> 'operator' AND state <> 'handled'")
    except DatabaseUnavailable:
        return False
    assert not [row for row in left if row["state"] == "dead"], left
    return not left


async def ends_short_for_a_reason(organisation: Organisation, record: DecisionRecord) -> None:
    answers = await organisation.find(ANSWERS, record.id)
    for phase in record.phases:
        reason = str(phase.detail.get("reason") or "")
        assert phase.finished_at is not None or phase.state == "waiting", phase
        assert reason or phase.state == "completed", phase
        absent = set(phase.detail.get("missing", ()))
        if phase.phase == Phase.BROADCAST:
            absent |= {receipt.role for receipt in record.receipts} - set(phase.detail["received"])
        for role, number in phase.detail.get("messages", {}).items():
            came = next(row["inserted_at"] for row in answers if row["in_reply_to"] == number)
            if phase.finished_at is not None and came > phase.finished_at:
                absent.add(role)
        assert all(role in reason for role in absent), (absent, phase)


TWICE = {
    "a participation": "SELECT role FROM participations WHERE decision_id = %s GROUP BY role HAVING count(*) > 1",
    "a vote": "SELECT voter_role FROM decision_votes WHERE decision_id = %s GROUP BY voter_role, round HAVING count(*) > 1",
    "something said": (
        "SELECT from_role, content ->> 'answer' AS answer FROM messages WHERE decision_id = %s AND to_role = 'conductor'"
        " AND content ? 'answer' GROUP BY from_role, content ->> 'answer', content ->> 'round' HAVING count(*) > 1"
    ),
    "something asked": (
        "SELECT to_role, content ->> 'ask' AS ask FROM messages WHERE decision_id = %s AND from_role = 'conductor'"
        " AND content ? 'ask' GROUP BY to_role, content ->> 'ask', content ->> 'round' HAVING count(*) > 1"
    ),
}
UNANSWERED = """
SELECT q.id, q.to_role, q.content ->> 'ask' AS ask, count(a.id) AS answers
FROM messages q LEFT JOIN messages a ON a.in_reply_to = q.id AND a.from_role = q.to_role AND a.content ? 'answer'
WHERE q.decision_id = %s AND q.from_role = 'conductor' AND q.content ? 'ask'
GROUP BY q.id HAVING count(a.id) <> 1
"""
BEGAN = """
SELECT (payload ->> 'phase')::int AS phase FROM events
WHERE decision_id = %s AND kind = 'phase' AND payload ->> 'state' = 'running' ORDER BY id
"""
ANSWERS = "SELECT in_reply_to, inserted_at FROM messages WHERE decision_id = %s AND content ? 'answer'"
