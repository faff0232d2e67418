"""One decision inside one transaction: read whole, changed in memory, written back with what follows from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from psycopg.types.json import Jsonb

from echo_core.bus.message import Message
from echo_core.bus.publish import insert_message
from echo_core.storage.database import Connection, Row
from echo_core.storage.queries import query
from echo_core.workflow.record import Phase


@dataclass(slots=True)
class PhaseState:
    phase: Phase
    state: str
    detail: dict[str, Any]
    changed: bool = False

    @property
    def asked(self) -> list[str]:
        return list(self.detail.get("asked", ()))


@dataclass(slots=True)
class DecisionState:
    """A locked row of `decisions` with its phases. `now` is the database's clock, seconds since the epoch."""

    id: str
    row: Row
    phases: dict[int, PhaseState]
    connection: Connection
    now: float
    messages: list[Message] = field(default_factory=list)  # stored, to be announced after the commit
    announcements: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    changed: bool = False

    @classmethod
    async def load(cls, connection: Connection, identity: str) -> DecisionState | None:
        row = await (await connection.execute(query("lock_decision"), {"id": identity})).fetchone()
        if row is None:
            return None
        phases = await (await connection.execute(query("decision_phases"), {"id": identity})).fetchall()
        return cls(
            id=identity,
            row=row,
            phases={p["phase"]: PhaseState(Phase(p["phase"]), p["state"], p["detail"]) for p in phases},
            connection=connection,
            now=row["now"],
        )

    @property
    def current(self) -> PhaseState:
        return self.phases[self.row["phase"]]

    @property
    def question(self) -> dict[str, str]:
        context = self.row["context"]
        return {"subject": context.get("subject", ""), "body": context.get("body", ""), "mode": self.row["mode"]}

    @property
    def text(self) -> str:
        return f"{self.question['subject']}\n{self.question['body']}"

    def set(self, **values: Any) -> None:
        self.row.update(values)
        self.changed = True

    async def fetch(self, name: str, **parameters: Any) -> list[Row]:
        return await (await self.connection.execute(query(name), {"id": self.id, **parameters})).fetchall()

    async def move(self, phase: PhaseState, state: str, **detail: Any) -> None:
        """A phase's transition, with its event."""
        phase.detail.update(detail)
        phase.state = state
        phase.changed = True
        payload = {"decision_id": self.id, "phase": int(phase.phase), "name": phase.phase.name.lower(), "state": state}
        await self.event("phase", {**payload, "reason": phase.detail.get("reason", "")})
        self.announcements.append(("workflow:phase", {**payload, "at": self.now}))

    def note(self, phase: PhaseState, **detail: Any) -> None:
        phase.detail.update(detail)
        phase.changed = True

    def degrade(self, phase: PhaseState, sentence: str) -> None:
        known = phase.detail.setdefault("degraded", [])
        if sentence not in known:
            known.append(sentence)
        phase.changed = True

    async def event(self, kind: str, payload: dict[str, Any], role: str | None = None) -> None:
        parameters = {"kind": kind, "decision_id": self.id, "role": role, "payload": Jsonb(payload)}
        await self.connection.execute(query("insert_event"), parameters)

    async def send(self, to_role: str, kind: str, subject: str, content: dict[str, Any]) -> Message:
        message = Message.compose("conductor", to_role, kind, subject, content=content, decision_id=self.id)
        stored = await insert_message(self.connection, message)
        self.messages.append(stored)
        return stored

    async def save(self) -> None:
        for phase in self.phases.values():
            if phase.changed:
                await self.connection.execute(
                    query("save_phase"),
                    {"id": self.id, "phase": int(phase.phase), "state": phase.state, "detail": Jsonb(phase.detail)},
                )
        if self.changed:
            names = ("phase", "status", "pace", "paused", "participants", "consensus_score")
            outcome = self.row["outcome"]
            await self.connection.execute(
                query("save_decision"),
                {
                    "id": self.id,
                    **{name: self.row[name] for name in names},
                    "outcome": None if outcome is None else Jsonb(outcome),
                    "context": Jsonb(self.row["context"]),
                },
            )
