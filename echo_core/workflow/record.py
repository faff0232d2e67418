"""A decision as it stands on record: what the decision room, the exports and `run --json` all read."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Any


class Phase(IntEnum):
    STARTUP = 1
    BROADCAST = 2
    SELF_SELECTION = 3
    DISCUSSION = 4
    CONSENSUS = 5
    SYNTHESIS = 6

    @property
    def title(self) -> str:
        return {6: "CEO synthesis"}.get(self.value, self.name.replace("_", "-").capitalize())


@dataclass(frozen=True, slots=True)
class PhaseRecord:
    """`state`: pending, running, waiting (for the operator), completed, failed (ended short; detail["reason"] says why)."""

    phase: int
    state: str
    started_at: datetime | None = None
    finished_at: datetime | None = None
    seconds: float | None = None  # by the database's clock; of a running phase, so far
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ReceiptRecord:
    role: str
    state: str  # of the delivery
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class ParticipationRecord:
    role: str
    stance: str
    confidence: float
    reasoning: str
    source: str
    model: str | None = None
    latency_ms: float | None = None


@dataclass(frozen=True, slots=True)
class ContributionRecord:
    role: str
    round: int
    text: str
    source: str
    position: str = "conditional"
    message_id: int = 0
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class VoteRecord:
    role: str
    round: int
    vote: str
    confidence: float
    rationale: str
    source: str


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """`number` is the id of the message that asked. `outcome` is a dict of `minds.protocol.Outcome`, or None."""

    id: str
    number: int
    subject: str
    body: str
    mode: str
    pace: str
    paused: bool
    status: str
    phase: int
    inserted_at: datetime
    completed_at: datetime | None = None
    consensus_score: float | None = None
    threshold: float = 0.6
    quorum: float = 0.5
    participants: tuple[str, ...] = ()
    phases: tuple[PhaseRecord, ...] = ()
    receipts: tuple[ReceiptRecord, ...] = ()
    participations: tuple[ParticipationRecord, ...] = ()
    contributions: tuple[ContributionRecord, ...] = ()
    votes: tuple[VoteRecord, ...] = ()
    outcome: dict[str, Any] | None = None
    degraded: tuple[str, ...] = ()  # what was missing while it was made, in sentences
