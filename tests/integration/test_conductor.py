"""The conductor on real servers; the agents' heartbeats and answers are written by the test."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from echo_core.bus.announcements import Announcements
from echo_core.bus.message import Message
from echo_core.bus.publish import publish
from echo_core.logs import Log
from echo_core.organisation import Organisation, PhaseLimits
from echo_core.settings import Settings
from echo_core.storage.database import Database
from echo_core.workflow.conductor import Conductor
from echo_core.workflow.record import DecisionRecord, Phase
from tests.support.company import Company
from tests.support.eventually import eventually

ROLES = ("ceo", "chro", "cto")
LONG = PhaseLimits(startup=60, broadcast=60, self_selection=60, discussion=60, consensus=60, synthesis=60)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, name="test")
    async with database.session() as connection:
        await connection.execute("UPDATE roles SET active = role = ANY(%s) WHERE NOT system", [list(ROLES)])
    yield database
    await database.close()


@pytest.fixture
async def company(database: Database, redis_url: str) -> AsyncIterator[Company]:
    announcements = Announcements(redis_url, name="test")
    async with Company(database, announcements, ROLES) as company:
        yield company
    await announcements.close()


@asynccontextmanager
async def conducting(settings: Settings, organisation: Organisation, **limits: float) -> AsyncIterator[Conductor]:
    patient = replace(organisation, limits=replace(LONG, **limits))  # type: ignore[arg-type]
    conductor = Conductor(settings, patient, Log(settings.logs_dir / "conductor.log"))
    running = asyncio.create_task(conductor.run())
    try:
        yield conductor
    finally:
        conductor.request_stop()
        await running


@pytest.fixture
async def conductor(settings: Settings, organisation: Organisation) -> AsyncIterator[Conductor]:
    async with conducting(settings, organisation) as conductor:
        yield conductor


def at(phase: Phase, state: str) -> Callable[[DecisionRecord], bool]:
    return lambda record: record.phase == phase and record.phases[phase - 1].state == state


def states(record: DecisionRecord) -> list[str]:
    return [phase.state for phase in record.phases]


def ended(record: DecisionRecord) -> bool:
    return record.status != "pending"


async def events(database: Database, decision: str, kind: str) -> list[dict[str, object]]:
    async with database.session() as connection:
        rows = await (
            await connection.execute(
                "SELECT payload FROM events WHERE decision_id = %s AND kind = %s ORDER BY id", [decision, kind]
            )
        ).fetchall()
    return [row["payload"] for row in rows]


async def mail(database: Database) -> list[Message]:
    """What the operator was sent."""
    async with database.session() as connection:
        rows = await (await connection.execute("SELECT * FROM messages WHERE to_role = 'operator' ORDER BY id")).fetchall()
    return [Message.from_row(row) for row in rows]


async def test_a_question_goes_through_six_phases_to_a_stored_outcome(conductor: Conductor, company: Company) -> None:
    company.answer_everything()
    company.votes["chro"] = "reject"
    decision = await company.open("Move the database?")
    record = await company.reaches(decision, ended, "an outcome")
    assert (record.status, states(record)) == ("approved", ["completed"] * 6)
    assert record.consensus_score == pytest.approx((1.0 + 0.6) / (1.0 + 0.6 + 0.6), abs=1e-4)
    assert {item.role: item.stance for item in record.participations} == company.stances
    assert {(item.role, item.round) for item in record.contributions} == {(role, n) for role in ROLES for n in (1, 2)}
    assert {(vote.role, vote.vote) for vote in record.votes} == {(role, company.votes[role]) for role in ROLES}
    assert record.outcome is not None
    assert record.outcome["summary"] == "So be it."
    assert all(phase.seconds is not None for phase in record.phases)
    assert record.degraded == ()
    told = await events(company.database, decision, "phase")
    assert [(event["phase"], event["state"]) for event in told] == [
        (phase, state) for phase in range(1, 7) for state in ("running", "completed")
    ]


async def test_by_steps_each_phase_waits_for_the_operator_until_it_may_run_on(
    conductor: Conductor, company: Company
) -> None:
    company.answer_everything()
    decision = await company.open(pace="step")
    for phase in (Phase.BROADCAST, Phase.SELF_SELECTION, Phase.DISCUSSION):
        record = await company.reaches(decision, at(phase, "waiting"), f"waiting before {phase.name}")
        assert record.phases[phase - 1].detail["waiting_for"] == "operator"
        await company.say("advance", decision)
    await company.reaches(decision, at(Phase.CONSENSUS, "waiting"), "waiting before the vote")
    await company.say("auto", decision)
    record = await company.reaches(decision, ended, "an outcome")
    assert (record.status, record.pace) == ("approved", "auto")
    done = [event["what"] for event in await events(company.database, decision, "operator")]
    assert done == ["advance", "advance", "advance", "auto"]


async def test_advancing_in_the_middle_of_a_phase_ends_it_and_says_who_was_not_waited_for(
    conductor: Conductor, company: Company
) -> None:
    decision = await company.open(pace="step")
    await company.reaches(decision, at(Phase.BROADCAST, "waiting"), "the first wait")
    await company.say("advance", decision)
    await company.reaches(decision, at(Phase.BROADCAST, "running"), "waiting for receipts")
    await company.say("advance", decision)
    record = await company.reaches(decision, at(Phase.SELF_SELECTION, "waiting"), "the next phase")
    assert record.phases[1].detail["reason"] == "the operator went on: not yet received by ceo, chro, cto"


async def test_a_second_press_meant_for_a_phase_that_has_begun_does_not_end_it(
    conductor: Conductor, company: Company, database: Database
) -> None:
    decision = await company.open(pace="step")
    await company.reaches(decision, at(Phase.BROADCAST, "waiting"), "the broadcast waits")
    await company.say("advance", decision, phase=2, state="waiting")
    await company.reaches(decision, at(Phase.BROADCAST, "running"), "the broadcast runs")
    await company.say("advance", decision, phase=2, state="waiting")
    (refusal,) = await eventually(lambda: mail(database), what="a word to the operator")
    assert "Broadcast has begun already" in refusal.body
    assert states(await company.record(decision))[:2] == ["completed", "running"]


async def test_paused_nothing_moves_and_the_time_that_passes_does_not_count(
    settings: Settings, organisation: Organisation, company: Company
) -> None:
    async with conducting(settings, organisation, self_selection=2):
        company.silent = set(ROLES)
        decision = await company.open()
        await company.reaches(decision, at(Phase.BROADCAST, "running"), "the broadcast")
        company.silent = set()
        await company.receive_all()
        await company.reaches(decision, at(Phase.SELF_SELECTION, "running"), "the judging")
        await company.say("pause", decision)
        paused = await company.reaches(decision, lambda r: "paused_at" in r.phases[2].detail, "the pause")
        since, paused_at = paused.phases[2].detail["since"], paused.phases[2].detail["paused_at"]
        await eventually(lambda: past(company.database, paused_at + 2.2), what="more than the limit has passed")
        assert at(Phase.SELF_SELECTION, "running")(await company.record(decision))
        await company.say("resume", decision)
        record = await company.reaches(decision, lambda r: "paused_at" not in r.phases[2].detail, "the end of the pause")
        assert at(Phase.SELF_SELECTION, "running")(record)
        assert record.phases[2].detail["since"] > since + 2.2
        company.answer_everything()
        record = await company.reaches(decision, ended, "an outcome")
        assert (record.status, record.degraded) == ("approved", ())


async def past(database: Database, moment: float) -> bool:
    async with database.session() as connection:
        row = await (await connection.execute("SELECT clock_timestamp() > to_timestamp(%s) AS past", [moment])).fetchone()
    return bool(row and row["past"])


async def test_what_the_operator_says_stands_in_the_discussion_once(conductor: Conductor, company: Company) -> None:
    decision = await company.open()
    await company.receive_all()
    await company.answer_all(decision, "judge", 3)
    await company.answer_all(decision, "contribute", 3)
    await company.reaches(decision, lambda r: r.phases[3].detail.get("round") == 2, "the second round")
    await company.say("speak", decision, text="Mind the budget")
    company.answer_everything()
    record = await company.reaches(decision, ended, "an outcome")
    said = [(item.role, item.text, item.source) for item in record.contributions if item.role == "operator"]
    assert said == [("operator", "Mind the budget", "operator")]
    assert {item.round for item in record.contributions if item.role == "operator"} <= {1, 2}
    assert [event["what"] for event in await events(company.database, decision, "operator")] == ["speak"]


async def test_another_round_is_held_when_asked_for_also_after_an_escalation(conductor: Conductor, company: Company) -> None:
    company.answer_everything()
    company.votes = {"ceo": "approve", "chro": "reject", "cto": "abstain"}
    decision = await company.open()
    record = await company.reaches(decision, ended, "an escalation")
    assert record.status == "escalated"
    rounds = max(item.round for item in record.contributions)
    votes = max(vote.round for vote in record.votes)
    assert (rounds, votes) == (3, 2)  # without a consensus there is one more round by itself
    company.votes = dict.fromkeys(ROLES, "approve")
    await company.say("another_round", decision)
    record = await company.reaches(decision, lambda r: r.status == "approved", "an approval")
    assert max(item.round for item in record.contributions) == rounds + 1
    assert {(vote.role, vote.round) for vote in record.votes} == {(role, n) for role in ROLES for n in (1, 2, 3)}
    assert states(record) == ["completed"] * 6


async def test_another_round_asked_for_during_the_discussion_comes_after_those_there_are(
    conductor: Conductor, company: Company
) -> None:
    decision = await company.open()
    await company.say("another_round", decision)
    (refusal,) = await eventually(lambda: mail(company.database))
    assert (refusal.subject, refusal.body) == ("Not done: another_round", "there was no discussion yet")
    await company.receive_all()
    await company.answer_all(decision, "judge", 3)
    await eventually(lambda: company.asked(decision, "contribute", "cto"))
    await company.say("another_round", decision)
    await company.reaches(decision, lambda r: r.phases[3].detail.get("rounds") == 3, "three rounds")
    company.answer_everything()
    record = await company.reaches(decision, ended, "an outcome")
    assert {(item.role, item.round) for item in record.contributions} == {(role, n) for role in ROLES for n in (1, 2, 3)}


@pytest.mark.parametrize("status", ["approved", "rejected"])
async def test_the_operator_overrules_at_any_time_and_it_stays_on_record_as_theirs(
    conductor: Conductor, company: Company, status: str
) -> None:
    decision = await company.open()
    await company.receive_all()
    await company.answer_all(decision, "judge", 3)
    await eventually(lambda: company.asked(decision, "contribute"))
    await company.say("overrule", decision, status=status, reason="I know better")
    record = await company.reaches(decision, ended, "the end")
    assert record.status == status
    assert record.outcome is not None
    assert (record.outcome["decided_by"], record.outcome["source"]) == ("operator", "operator")
    assert "I know better" in record.outcome["summary"]
    assert states(record) == ["completed", "completed", "completed", "failed", "failed", "failed"]
    await company.say("cancel", decision)
    (refusal,) = await eventually(lambda: mail(company.database))
    assert refusal.body == f"the decision is already {status}"


@pytest.mark.parametrize(("name", "status"), [("approve", "approved"), ("reject", "rejected"), ("cancel", "cancelled")])
async def test_without_a_quorum_it_is_escalated_and_only_the_operator_ends_it(
    conductor: Conductor, company: Company, name: str, status: str
) -> None:
    company.answer_everything()
    company.votes = {"ceo": "approve", "chro": "abstain", "cto": "abstain"}
    decision = await company.open()
    record = await company.reaches(decision, ended, "an escalation")
    assert record.status == "escalated"
    assert states(record)[4:] == ["failed", "waiting"]
    assert record.phases[4].detail["reason"] == "too few voted for or against"
    assert record.completed_at is None
    assert [message.type for message in await mail(company.database)] == ["escalation"]
    await company.say(name, decision, reason="for good reason")
    record = await company.reaches(decision, lambda r: r.status != "escalated", "the operator's word")
    assert record.status == status
    assert record.completed_at is not None


async def test_in_human_mode_even_a_clear_vote_waits_for_the_operator(conductor: Conductor, company: Company) -> None:
    company.answer_everything()
    decision = await company.open(mode="human")
    record = await company.reaches(decision, ended, "an escalation")
    assert (record.status, record.consensus_score) == ("escalated", 1.0)
    assert record.phases[5].detail["reason"] == "a person decides in this mode"
    assert record.outcome is not None
    assert record.outcome["summary"].startswith("What the organisation advises, for a person decides: ")


async def test_the_operator_can_take_a_decision_over_before_it_is_made(conductor: Conductor, company: Company) -> None:
    decision = await company.open()
    await company.receive_all()
    await eventually(lambda: company.asked(decision, "judge"))
    await company.say("approve", decision)
    (refusal,) = await eventually(lambda: mail(company.database))
    assert "not waiting for approval" in refusal.body
    await company.say("escalate", decision)
    record = await company.reaches(decision, ended, "an escalation")
    assert (record.status, states(record)[5]) == ("escalated", "waiting")
    await company.say("reject", decision, reason="too early")
    record = await company.reaches(decision, lambda r: r.status == "rejected", "a rejection")
    assert record.outcome is not None
    assert record.outcome["operator_reason"] == "too early"


async def test_cancelled_a_decision_asks_nobody_any_more(conductor: Conductor, company: Company) -> None:
    decision = await company.open()
    await company.receive_all()
    await eventually(lambda: company.asked(decision, "judge"))
    await company.say("cancel", decision)
    record = await company.reaches(decision, ended, "the end")
    assert (record.status, record.outcome) == ("cancelled", None)
    for request in await company.asked(decision, "judge"):
        await company.answer(request)
    other = await company.open("Another?")
    company.answer_everything()
    await company.reaches(other, ended, "the other decision")
    assert await company.asked(decision, "contribute") == []


async def test_an_agent_that_dies_is_not_waited_for_and_the_phase_says_so(conductor: Conductor, company: Company) -> None:
    decision = await company.open()
    await company.receive_all()
    await company.answer_all(decision, "judge", 3)
    for request in await eventually(lambda: three(company.asked(decision, "contribute"))):  # type: ignore[union-attr]
        if request.to_role != "chro":
            await company.answer(request)
    record = await company.record(decision)
    assert at(Phase.DISCUSSION, "running")(record)
    await company.stops("chro")
    company.answer_everything()
    record = await company.reaches(decision, ended, "an outcome")
    assert record.status == "approved"
    assert {vote.role for vote in record.votes} == {"ceo", "cto"}
    assert "chro did not answer in phase 4" in record.degraded


async def three(asked: object) -> list[Message] | None:
    found = await asked  # type: ignore[misc]
    return found if len(found) == 3 else None


async def test_a_silent_agent_is_waited_for_until_the_time_is_up(
    settings: Settings, organisation: Organisation, company: Company
) -> None:
    company.answer_everything()
    async with conducting(settings, organisation, self_selection=1, discussion=1, consensus=1):
        decision = await company.open()
        await company.reaches(decision, lambda r: r.phase >= 3, "the judging")
        company.silent = {"cto"}
        record = await company.reaches(decision, ended, "an outcome")
    assert record.status == "approved"
    assert "time was up after 1 s: no answer from cto" in {phase.detail.get("reason") for phase in record.phases}


async def test_without_the_leader_the_outcome_is_written_by_rules_and_says_so(
    conductor: Conductor, company: Company
) -> None:
    decision = await company.open()
    await company.receive_all()
    for ask in ("judge", "contribute", "contribute"):
        await company.answer_all(decision, ask, 3)
    await company.answer_all(decision, "vote", 3)
    await eventually(lambda: company.asked(decision, "synthesise", "ceo"))
    await company.stops("ceo")
    record = await company.reaches(decision, ended, "an outcome")
    assert record.status == "approved"
    assert record.outcome is not None
    assert record.outcome["source"] == "rules"
    assert "ceo could not write the outcome: written by rules" in record.degraded


async def test_when_nobody_answers_at_all_it_is_escalated(
    settings: Settings, organisation: Organisation, company: Company
) -> None:
    company.silent = set(ROLES)
    quick = {"broadcast": 1, "self_selection": 1, "discussion": 1, "consensus": 1, "synthesis": 1}
    async with conducting(settings, organisation, **quick):
        decision = await company.open()
        record = await company.reaches(decision, ended, "an escalation")
    assert (record.status, record.consensus_score) == ("escalated", None)
    assert "nobody found it relevant: ceo leads, by rule" in record.degraded


async def test_a_second_conductor_stands_by_and_takes_over_when_the_first_ends(
    settings: Settings, organisation: Organisation, company: Company, data_dir: object
) -> None:
    second_home = replace(settings, data_dir=settings.data_dir / "second")
    second_home.prepare()
    async with conducting(settings, organisation) as first:
        decision = await company.open()
        await company.reaches(decision, at(Phase.BROADCAST, "running"), "the first one's work")
        async with conducting(second_home, organisation):
            log = second_home.logs_dir / "conductor.log"
            await eventually(lambda: log.exists() and "standing by" in log.read_text())
            company.answer_everything()
            one = await company.reaches(decision, ended, "an outcome")
            assert len({(item.role, item.round) for item in one.contributions}) == len(one.contributions)
            first.request_stop()
            again = await company.open("And now?")
            record = await company.reaches(again, ended, "an outcome by the second")
            assert record.status == "approved"
            assert "conducting" in log.read_text().split("standing by")[1]


async def test_a_command_about_nothing_is_answered_not_lost(conductor: Conductor, company: Company) -> None:
    stray = Message.compose("operator", "conductor", "request", "dance")
    sent = await publish(company.database, company.announcements, stray)
    (answer,) = await eventually(lambda: mail(company.database))
    assert (answer.subject, answer.in_reply_to) == ("Not done: dance", sent.id)
    assert "known are advance" in answer.body


@pytest.mark.parametrize(("name", "needed"), [("overrule", '"status"'), ("speak", '"text"')])
async def test_a_command_typed_by_hand_that_lacks_something_is_answered_and_holds_nothing_up(
    conductor: Conductor, company: Company, name: str, needed: str
) -> None:
    decision = await company.open(pace="step")
    await company.reaches(decision, at(Phase.BROADCAST, "waiting"), "the first wait")
    typed = Message.compose("operator", "conductor", "request", name, decision_id=decision)
    await publish(company.database, company.announcements, typed)
    (answer,) = await eventually(lambda: mail(company.database))
    assert needed in answer.body
    company.answer_everything()
    await company.say("auto", decision)
    assert (await company.reaches(decision, ended, "an outcome")).status == "approved"


async def test_a_change_of_health_is_announced_once_it_is_on_record(
    conductor: Conductor, company: Company, redis_url: str
) -> None:
    heard: list[bytes] = []
    listener = Announcements(redis_url, name="listener")
    ready = asyncio.Event()
    listening = asyncio.create_task(listener.listen(["agents:status"], lambda _channel, data: heard.append(data), ready.set))
    await ready.wait()
    await company.stops("cto")
    await eventually(lambda: [(each["role"], each["to"]) for each in map(json.loads, heard)][-1:] == [("cto", "stopped")])
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)


async def test_the_health_of_agents_is_on_the_timeline_once(conductor: Conductor, company: Company) -> None:
    async def told() -> list[tuple[str, str]]:
        async with company.database.session() as connection:
            rows = await (
                await connection.execute("SELECT kind, payload FROM events WHERE role = 'cto' ORDER BY id")
            ).fetchall()
        return [(row["kind"], row["payload"]["to"]) for row in rows]

    await eventually(told)
    await company.stops("cto")
    await eventually(lambda: ended_with(told(), ("health", "stopped")))
    assert await told() == [("health", "healthy"), ("breaker", "open"), ("health", "stopped")]


async def ended_with(told: object, last: tuple[str, str]) -> bool:
    found = await told  # type: ignore[misc]
    return bool(found) and found[-1] == last
