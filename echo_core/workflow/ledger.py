"""Reading decisions back from the database, whole."""

from __future__ import annotations

from typing import Any

from echo_core.errors import EchoError, UsageError
from echo_core.storage.database import Connection, Database, Row
from echo_core.storage.queries import query
from echo_core.workflow.record import (
    ContributionRecord,
    DecisionRecord,
    ParticipationRecord,
    PhaseRecord,
    ReceiptRecord,
    VoteRecord,
)


async def find_decision(database: Database, text: str) -> str:
    """The id of the decision meant by an id, the beginning of one (6 characters or more) or its number."""
    rows = await database.fetch_all("find_decisions", {"text": text.strip().lstrip("#").lower()})
    if len(rows) == 1:
        return str(rows[0]["id"])
    if rows:
        raise UsageError(f"{text!r} is the beginning of more than one decision; write more of it")
    raise UsageError(f"no decision {text!r}; `echo-tui decisions` lists them")


async def list_decisions(database: Database, limit: int = 50) -> list[dict[str, Any]]:
    """Newest first; ids as text."""
    rows = await database.fetch_all("list_decisions", {"limit": limit})
    return [{**row, "id": str(row["id"])} for row in rows]


async def load_decision(database: Database, identity: str) -> DecisionRecord:
    """Everything on record about a decision, as of one moment. Raises EchoError when there is none."""
    async with database.transaction() as connection:
        row = await _one(connection, "decision_by_id", {"id": identity})
        if row is None:
            raise EchoError(f"no decision {identity}; `echo-tui decisions` lists them")
        key = {"id": identity}
        phases = [
            PhaseRecord(p["phase"], p["state"], p["started_at"], p["finished_at"], p["seconds"], p["detail"])
            for p in await _all(connection, "decision_phases", key)
        ]
        receipts = [ReceiptRecord(**r) for r in await _all(connection, "receipts", {"message_id": row["message_id"]})]
        participations = [
            ParticipationRecord(
                p["role"], p["stance"], p["confidence"], p["reasoning"], p["source"], p["model"], p["latency_ms"]
            )
            for p in await _all(connection, "participations_of", key)
        ]
        votes = [
            VoteRecord(v["voter_role"], v["round"], v["vote"], v["confidence"], v["rationale"], v["source"])
            for v in await _all(connection, "votes_of", key)
        ]
        contributions = _contributions(await _all(connection, "answers_of", {**key, "answer": "contribution"}))
    consensus = phases[4].detail
    return DecisionRecord(
        id=str(row["id"]),
        number=row["message_id"] or 0,
        subject=row["context"].get("subject", ""),
        body=row["context"].get("body", ""),
        mode=row["mode"],
        pace=row["pace"],
        paused=row["paused"],
        status=row["status"],
        phase=row["phase"],
        inserted_at=row["inserted_at"],
        completed_at=row["completed_at"],
        consensus_score=row["consensus_score"],
        threshold=consensus.get("threshold", DecisionRecord.__dataclass_fields__["threshold"].default),
        quorum=consensus.get("quorum", DecisionRecord.__dataclass_fields__["quorum"].default),
        participants=tuple(row["participants"]),
        phases=tuple(phases),
        receipts=tuple(receipts),
        participations=tuple(participations),
        contributions=tuple(contributions),
        votes=tuple(votes),
        outcome=row["outcome"],
        degraded=tuple(dict.fromkeys(text for phase in phases for text in phase.detail.get("degraded", ()))),
    )


def _contributions(rows: list[Row]) -> list[ContributionRecord]:
    """In the order they were made. What the operator said belongs to the round in which it was said."""
    found: list[ContributionRecord] = []
    latest = 1
    for row in rows:
        content = row["content"]
        latest = max(latest, int(content.get("round") or 1))
        found.append(
            ContributionRecord(
                role=row["from_role"],
                round=int(content.get("round") or latest),
                text=str(content.get("text", "")),
                source=str(content.get("source", "")),
                position=str(content.get("position") or ("" if row["from_role"] == "operator" else "conditional")),
                message_id=row["id"],
                at=row["inserted_at"],
            )
        )
    return found


async def _all(connection: Connection, name: str, parameters: dict[str, Any]) -> list[Row]:
    return await (await connection.execute(query(name), parameters)).fetchall()


async def _one(connection: Connection, name: str, parameters: dict[str, Any]) -> Row | None:
    return await (await connection.execute(query(name), parameters)).fetchone()
