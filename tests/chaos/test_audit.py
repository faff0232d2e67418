"""The audit can fail: each kind of damage, done by hand, is found."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest

from echo_core.logs import log_line
from tests.chaos.audit import Findings, audit
from tests.chaos.logs import repeated
from tests.chaos.plan import Planned, plan
from tests.chaos.schedule import WEIGHTS, schedule

SENDERS = 2
_INSERT = """
INSERT INTO messages (uid, from_role, to_role, type, subject, content, decision_id)
VALUES (%(uid)s, %(from_role)s, %(to_role)s, %(type)s, %(subject)s, %(content)s, %(decision_id)s) RETURNING id
"""
_ANSWER = """
INSERT INTO messages (from_role, to_role, type, subject, content, in_reply_to, decision_id)
VALUES (%s, %s, 'response', 'Re', %s, %s, %s)
"""


@pytest.fixture
def planned() -> list[Planned]:
    return plan(5, 12, 0, SENDERS, ["ceo", "cto"])


async def tidy(connection: psycopg.AsyncConnection, planned: list[Planned]) -> dict[str, int]:
    """As if all went well: stored, handled, answered. Returns ids by token."""
    numbers = {}
    for one in planned:
        values = {**one.message.to_json(), "content": json.dumps(one.message.content)}
        row = await (await connection.execute(_INSERT, values)).fetchone()
        assert row is not None
        numbers[one.token] = row[0]
    await connection.execute("UPDATE deliveries SET state = 'handled', handled_at = now()")
    owed = await (
        await connection.execute(
            "SELECT m.id, d.role FROM messages m JOIN deliveries d ON d.message_id = m.id"
            " WHERE m.type = 'request' OR m.type = 'escalation' AND m.to_role = d.role"
        )
    ).fetchall()
    for number, role in owed:
        await connection.execute(_ANSWER, [role, "operator", "{}", number, None])
    await connection.execute("UPDATE deliveries SET state = 'handled', handled_at = now()")
    return numbers


async def found(url: str, planned: list[Planned]) -> Findings:
    return await audit(url, planned, {})


async def test_a_tidy_database_has_no_findings(admin_url: str, planned: list[Planned]) -> None:
    async with await psycopg.AsyncConnection.connect(admin_url, autocommit=True) as connection:
        await tidy(connection, planned)
    assert (await found(admin_url, planned)).sentences == []


@pytest.mark.parametrize(
    ("damage", "field", "sentence"),
    [
        ("UPDATE deliveries SET state = 'claimed' WHERE ctid = (SELECT min(ctid) FROM deliveries)", "lost", "not handled"),
        ("UPDATE deliveries SET state = 'dead' WHERE ctid = (SELECT min(ctid) FROM deliveries)", "lost", "not handled"),
        (
            "INSERT INTO messages (from_role, to_role, type, subject, content, in_reply_to)"
            " SELECT from_role, to_role, type, subject, content, in_reply_to FROM messages"
            " WHERE in_reply_to IS NOT NULL LIMIT 1",
            "doubled",
            "answered more than once",
        ),
        (
            "INSERT INTO messages (from_role, to_role, type, subject, content)"
            " SELECT from_role, to_role, type, subject, content FROM messages WHERE content ? 'token' LIMIT 1",
            "doubled",
            "stored twice",
        ),
        (
            "INSERT INTO messages (from_role, to_role, type, subject) VALUES ('operator', 'all', 'request', 'Hangs')",
            "hung",
            "no legal end",
        ),
        (
            "INSERT INTO messages (from_role, to_role, type, subject) VALUES ('operator', 'ceo', 'request', 'Unanswered');"
            "UPDATE deliveries SET state = 'handled'",
            "lost",
            "handled without its effect",
        ),
        (
            "INSERT INTO events (kind, role, payload) VALUES"
            """ ('breaker', 'cto', '{"pid": 1, "instance": 1, "of": "redis", "from": "closed", "to": "open"}'),"""
            """ ('breaker', 'cto', '{"pid": 1, "instance": 1, "of": "redis", "from": "half-open", "to": "closed"}')""",
            "gaps",
            "a gap in the timeline of health",
        ),
    ],
)
async def test_each_kind_of_damage_is_found(
    admin_url: str, planned: list[Planned], damage: str, field: str, sentence: str
) -> None:
    async with await psycopg.AsyncConnection.connect(admin_url, autocommit=True) as connection:
        await tidy(connection, planned)
        await connection.execute(damage.encode())
    findings = await found(admin_url, planned)
    assert getattr(findings, field) > 0
    assert any(said.startswith(sentence) for said in findings.sentences)


async def test_a_message_that_is_missing_or_came_out_of_order_is_found(admin_url: str, planned: list[Planned]) -> None:
    mine = [one for one in planned if one.sender == 0]
    async with await psycopg.AsyncConnection.connect(admin_url, autocommit=True) as connection:
        await tidy(connection, [mine[1], mine[0], *mine[3:]])
    findings = await found(admin_url, mine)
    assert (findings.lost, findings.disordered) == (1, 1)


async def test_a_vote_without_its_message_is_half_an_effect(admin_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(admin_url, autocommit=True) as connection:
        await connection.execute(
            "INSERT INTO messages (from_role, to_role, type, subject) VALUES ('operator', 'all', 'request', 'Q')"
        )
        await connection.execute(
            "INSERT INTO decision_votes (decision_id, voter_role, vote, confidence, source)"
            " SELECT id, 'cto', 'approve', 1, 'rules' FROM decisions"
        )
    findings = await found(admin_url, [])
    assert any(said.startswith("half an effect") for said in findings.sentences)


async def test_a_decision_that_ended_without_saying_so_has_a_gap(admin_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(admin_url, autocommit=True) as connection:
        await connection.execute(
            "INSERT INTO messages (from_role, to_role, type, subject) VALUES ('operator', 'all', 'request', 'Q')"
        )
        await connection.execute("UPDATE decisions SET status = 'approved', outcome = '{}', completed_at = now()")
    findings = await found(admin_url, [])
    assert any("which no event says" in said for said in findings.sentences)


def test_a_seed_names_one_schedule_and_one_plan() -> None:
    assert schedule(3, 60) == schedule(3, 60)
    assert schedule(3, 60) != schedule(4, 60)
    assert {fault.kind for fault in schedule(3, 60)} == set(WEIGHTS)
    roles = ["ceo", "cto"]
    assert [one.message for one in plan(3, 50, 6, 3, roles)] == [one.message for one in plan(3, 50, 6, 3, roles)]
    assert len({one.message.uid for one in plan(3, 50, 6, 3, roles)}) == 50


def test_an_outage_that_a_log_says_twice_is_found(tmp_path: Path) -> None:
    lost, back = log_line("WARN", "lost", "Redis can't be reached: x"), log_line("INFO", "reach", "Redis is there")
    began = log_line("INFO", "start", "CTO (cto), process 1")
    (tmp_path / "cto.log").write_text("\n".join([began, back, lost, back, lost, began, lost, back]))
    assert repeated(tmp_path) == []
    (tmp_path / "cto.log").write_text("\n".join([began, back, lost, lost, back]))
    assert len(repeated(tmp_path)) == 1
