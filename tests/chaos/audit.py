"""After the storm: what the database says about every message, every delivery, every decision and the timeline."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.rows import dict_row

from echo_core.workflow.record import Phase
from tests.chaos.plan import Planned

LEGAL = ("approved", "rejected", "escalated", "cancelled")
SHOWN = 5  # of each finding; the rest is counted

_NOT_HANDLED = """
SELECT m.subject, d.message_id, d.role, d.state, d.attempts, d.error FROM deliveries d JOIN messages m ON m.id = d.message_id
WHERE d.role <> 'operator' AND d.state <> 'handled' ORDER BY d.message_id
"""
# Of each delivery that asks for an answer: how many there are. Anything but one is wrong.
_ANSWERS = """
SELECT m.id, d.role, m.type, count(a.id) AS answers
FROM messages m JOIN deliveries d ON d.message_id = m.id AND d.role NOT IN ('operator', 'conductor')
LEFT JOIN messages a ON a.in_reply_to = m.id AND a.from_role = d.role
WHERE m.type = 'request' AND m.to_role <> 'all' OR m.type = 'escalation' AND m.to_role = d.role
GROUP BY m.id, d.role, m.type HAVING count(a.id) <> 1 ORDER BY m.id
"""
_UNASKED = """
SELECT a.id, a.from_role, count(*) FROM messages a
WHERE a.in_reply_to IS NOT NULL AND a.from_role NOT IN ('operator', 'conductor')
GROUP BY a.id, a.from_role HAVING NOT bool_or(EXISTS (
    SELECT FROM deliveries d WHERE d.message_id = a.in_reply_to AND d.role = a.from_role AND d.state = 'handled'))
"""
_DOUBLED_ANSWERS = """
SELECT decision_id, from_role, content ->> 'answer' AS answer, content ->> 'round' AS round, count(*) AS times
FROM messages WHERE content ->> 'answer' IN ('judgement', 'contribution', 'vote') AND from_role <> 'operator'
GROUP BY 1, 2, 3, 4 HAVING count(*) > 1
"""
# What an agent said and what was recorded of it were stored together: each has the other.
_HALF_EFFECTS = """
SELECT 'vote' AS what, coalesce(m.decision_id, v.decision_id) AS decision_id, coalesce(m.from_role, v.voter_role) AS role
FROM (SELECT * FROM messages WHERE content ->> 'answer' = 'vote') m
FULL JOIN decision_votes v
  ON v.decision_id = m.decision_id AND v.voter_role = m.from_role AND v.round = (m.content ->> 'round')::int
WHERE m.id IS NULL OR v.decision_id IS NULL
UNION ALL
SELECT 'judgement', coalesce(m.decision_id, p.decision_id), coalesce(m.from_role, p.role)
FROM (SELECT * FROM messages WHERE content ->> 'answer' = 'judgement') m
FULL JOIN participations p ON p.decision_id = m.decision_id AND p.role = m.from_role
WHERE m.id IS NULL OR p.decision_id IS NULL
"""
_COMMANDS_TWICE = """
SELECT payload ->> 'token' AS token, count(*) AS times FROM events
WHERE kind = 'operator' AND payload ? 'token' GROUP BY 1 HAVING count(*) > 1
"""


_AT_WORK = {"busy": "healthy"}  # from one to the other and back is not recorded: it happens with each message


@dataclass(slots=True)
class Findings:
    """What was found, in numbers and in sentences; no sentence means that all is well."""

    sent: int = 0
    lost: int = 0
    doubled: int = 0
    disordered: int = 0
    hung: int = 0
    gaps: int = 0
    counts: dict[str, Any] = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)

    def add(self, what: str, found: Iterable[object]) -> int:
        """Note `what` for each of `found`; returns how many."""
        items = list(found)
        if items:
            more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
            self.sentences.append(f"{what}: {'; '.join(str(item) for item in items[:SHOWN])}{more}")
        return len(items)


async def audit(url: str, planned: list[Planned], also: dict[str, str]) -> Findings:
    """`also`: what else was sent, uid by token."""
    findings = Findings(sent=len(planned) + len(also))
    async with await psycopg.AsyncConnection.connect(url, autocommit=True, row_factory=dict_row) as connection:
        ask = _Asker(connection)
        await _messages(ask, findings, planned, also)
        await _deliveries(ask, findings)
        await _decisions(ask, findings, planned)
        await _timeline(ask, findings)
        await _chains(ask, findings)
        findings.counts |= (
            await ask(
                """
                SELECT (SELECT count(*) FROM messages) AS messages, (SELECT count(*) FROM deliveries) AS deliveries,
                       (SELECT count(*) FROM deliveries WHERE attempts > 1) AS deliveries_taken_more_than_once,
                       (SELECT count(*) FROM decisions) AS decisions, (SELECT count(*) FROM events) AS events
                """
            )
        )[0]
        statuses = await ask("SELECT status, count(*) AS n FROM decisions GROUP BY 1 ORDER BY 1")
        findings.counts["decisions_by_status"] = {row["status"]: row["n"] for row in statuses}
    return findings


class _Asker:
    def __init__(self, connection: psycopg.AsyncConnection[dict[str, Any]]) -> None:
        self._connection = connection

    async def __call__(self, statement: str) -> list[dict[str, Any]]:
        return await (await self._connection.execute(statement.encode())).fetchall()


async def _messages(ask: _Asker, findings: Findings, planned: list[Planned], also: dict[str, str]) -> None:
    """Each message put by a sender is stored exactly once, and each sender's in the order it said them."""
    rows = await ask(
        "SELECT id, uid::text, content ->> 'token' AS token FROM messages WHERE content ? 'token' AND in_reply_to IS NULL"
    )
    stored: dict[str, list[int]] = defaultdict(list)
    uids = set()
    for row in rows:
        stored[row["token"]].append(row["id"])
        uids.add(row["uid"])
    wanted = {**{one.token: one.message.uid for one in planned}, **also}
    findings.lost += findings.add("lost", [token for token, uid in wanted.items() if uid not in uids])
    findings.doubled += findings.add("stored twice", [token for token, ids in stored.items() if len(ids) > 1])
    findings.doubled += findings.add("stored, but never said", [token for token in stored if token not in wanted])
    last: dict[int, int] = {}
    late = []
    for one in planned:
        for number in stored.get(one.token, [])[:1]:
            if number < last.get(one.sender, 0):
                late.append(f"{one.token} of sender {one.sender}")
            last[one.sender] = max(number, last.get(one.sender, 0))
    findings.disordered += findings.add("out of order", late)


async def _deliveries(ask: _Asker, findings: Findings) -> None:
    findings.lost += findings.add("not handled", await ask(_NOT_HANDLED))
    wrong = await ask(_ANSWERS)
    findings.lost += findings.add("handled without its effect", [row for row in wrong if row["answers"] == 0])
    findings.doubled += findings.add("answered more than once", [row for row in wrong if row["answers"] > 1])
    findings.doubled += findings.add("an answer to what was not owed", await ask(_UNASKED))
    findings.doubled += findings.add("said twice in one round", await ask(_DOUBLED_ANSWERS))
    findings.lost += findings.add("half an effect", await ask(_HALF_EFFECTS))
    findings.doubled += findings.add("a command applied twice", await ask(_COMMANDS_TWICE))


async def _decisions(ask: _Asker, findings: Findings, planned: list[Planned]) -> None:
    rows = await ask("SELECT id::text, status, phase, context -> 'queue' AS queue, outcome FROM decisions")
    opened = {one.message.decision_id for one in planned if one.message.to_role == "all" and one.message.type == "request"}
    findings.hung += findings.add("no decision was opened", opened - {row["id"] for row in rows})
    findings.hung += findings.add(
        "no legal end",
        [f"{row['id']} {row['status']} in phase {row['phase']}" for row in rows if row["status"] not in LEGAL],
    )
    findings.hung += findings.add("a command still waits", [row["id"] for row in rows if row["queue"]])
    findings.hung += findings.add(
        "no outcome", [row["id"] for row in rows if row["status"] != "cancelled" and not row["outcome"]]
    )
    findings.hung += findings.add("a phase still runs", await ask("SELECT * FROM phases WHERE state = 'running'"))


_NEXT = {
    "pending": {"running", "waiting", "failed"},
    "waiting": {"running", "completed", "failed", "pending"},
    "running": {"waiting", "completed", "failed", "pending"},
    "completed": {"running", "pending"},  # another round
    "failed": {"running", "pending"},
}


async def _timeline(ask: _Asker, findings: Findings) -> None:
    """The events of each decision tell its whole way: opened once, every phase's steps in order, and its end."""
    events: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in await ask(
        "SELECT decision_id::text, kind, payload FROM events WHERE decision_id IS NOT NULL ORDER BY decision_id, id"
    ):
        events[row["decision_id"]].append(row)
    phases: dict[str, dict[int, str]] = defaultdict(dict)
    for row in await ask("SELECT decision_id::text, phase, state FROM phases"):
        phases[row["decision_id"]][row["phase"]] = row["state"]
    gaps = []
    for row in await ask("SELECT id::text, status FROM decisions"):
        gaps += [f"{row['id']}: {gap}" for gap in _gaps(row["status"], events[row["id"]], phases[row["id"]])]
    findings.gaps += findings.add("a gap in a decision's timeline", gaps)


def _gaps(status: str, events: list[dict[str, Any]], phases: dict[int, str]) -> list[str]:
    gaps = []
    opened = [event for event in events if event["kind"] == "decision" and event["payload"]["what"] == "opened"]
    if len(opened) != 1:
        gaps.append(f"opened {len(opened)} times")
    now = {int(phase): "pending" for phase in Phase}
    by_operator = [event for event in events if event["kind"] == "operator"]
    for event in events:
        if event["kind"] != "phase":
            continue
        phase, state = event["payload"]["phase"], event["payload"]["state"]
        if state not in _NEXT[now[phase]]:
            gaps.append(f"phase {phase} went from {now[phase]} to {state}")
        if state == "running" and any(now[before] not in ("completed", "failed") for before in range(1, phase)):
            gaps.append(f"phase {phase} began before the one before it ended")
        now[phase] = state
    gaps += [
        f"phase {phase} is {phases[phase]}, its events say {now[phase]}" for phase in now if now[phase] != phases[phase]
    ]
    ends = [event["payload"]["what"] for event in [*events] if event["kind"] == "decision"]
    said = [event["payload"]["what"] for event in by_operator]
    if status not in ends and (status, True) not in {("cancelled", "cancel" in said), ("escalated", "escalate" in said)}:
        gaps.append(f"it is {status}, which no event says")
    return gaps


async def _chains(ask: _Asker, findings: Findings) -> None:
    """The next transition begins where the same observer's last one ended, or where another's did that came between."""
    state: dict[tuple[str, ...], str] = {}
    latest: dict[tuple[str, ...], str] = {}  # whoever told it: what is known already is not told again
    gaps = []
    rows = await ask("SELECT kind, role, payload FROM events WHERE kind IN ('health', 'breaker') ORDER BY id")
    for row in rows:
        payload = row["payload"]
        observer = payload.get("by") or payload.get("pid")  # a conductor, or the agent itself
        key = (str(observer), row["kind"], str(row["role"]), str(payload["instance"]), str(payload.get("of", "")))
        begins, ends = _AT_WORK.get(payload["from"], payload["from"]), _AT_WORK.get(payload["to"], payload["to"])
        if begins not in (state.get(key, begins), latest.get(key[1:])):
            gaps.append(f"{' '.join(key)} was {state[key]}, then left {begins}")
        state[key] = latest[key[1:]] = ends
    findings.gaps += findings.add("a gap in the timeline of health", gaps)
    findings.counts["transitions"] = len(rows)
