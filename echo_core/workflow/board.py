"""How a vote stands while it is still open: counted by the formula that counts it in the end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from echo_core.minds.protocol import Vote
from echo_core.organisation import Organisation
from echo_core.workflow.consensus import STANCE_WEIGHTS, count
from echo_core.workflow.record import DecisionRecord, Phase, VoteRecord


@dataclass(frozen=True, slots=True)
class Board:
    """One round of votes. `score` None: nobody was for or against yet, or the leader alone decides."""

    round: int
    score: float | None
    threshold: float
    votes: tuple[VoteRecord, ...]
    awaited: tuple[str, ...]  # asked, and silent so far
    cast: int  # for or against
    quorum: int  # how many must be for or against


def vote_board(record: DecisionRecord) -> Board | None:
    """The newest round; None before the first vote was asked for."""
    detail = record.phases[Phase.CONSENSUS - 1].detail if record.phases else {}
    number = int(detail.get("round", 0))
    if not number:
        return None
    votes = tuple(vote for vote in record.votes if vote.round == number)
    voted = {vote.role for vote in votes}
    stances = stances_of(record)
    rules = Organisation("", {}, threshold=record.threshold, quorum=record.quorum)
    ballots = [
        Vote.model_validate({"role": v.role, "vote": v.vote, "confidence": v.confidence, "rationale": v.rationale})
        for v in votes
    ]
    tally = detail.get("tally") or {}
    if "score" in tally:
        score = tally["score"]
    elif record.mode == "hierarchical":
        score = None
    else:
        score = count(ballots, stances, rules, mode=record.mode).score
    return Board(
        round=number,
        score=score,
        threshold=record.threshold,
        votes=votes,
        awaited=tuple(role for role in detail.get("asked", ()) if role not in voted),
        cast=sum(vote.vote != "abstain" for vote in votes),
        quorum=max(1, math.ceil(record.quorum * len(record.participants))),
    )


def stances_of(record: DecisionRecord) -> Mapping[str, str]:
    """Who counts, and how: lead or assist by role; empty before the self-selection is over."""
    stances = record.phases[Phase.SELF_SELECTION - 1].detail.get("stances") if record.phases else None
    return stances if isinstance(stances, dict) else {}


def weight_of(vote: VoteRecord, stances: Mapping[str, str]) -> float | None:
    """What the vote weighs for or against; None for an abstention, and for a role that does not count."""
    stance = STANCE_WEIGHTS.get(stances.get(vote.role, ""))
    return None if stance is None or vote.vote == "abstain" else stance * vote.confidence


def awaited_roles(record: DecisionRecord) -> tuple[str, ...]:
    """Who was asked in the phase that runs and has not answered."""
    phase = record.phases[record.phase - 1]
    asked = tuple(phase.detail.get("asked", ()))
    match Phase(record.phase):
        case Phase.STARTUP:
            return ()
        case Phase.BROADCAST:
            return tuple(receipt.role for receipt in record.receipts if receipt.state != "handled")
        case Phase.SELF_SELECTION:
            answered = {item.role for item in record.participations}
        case Phase.DISCUSSION:
            number = int(phase.detail.get("round", 0))
            answered = {item.role for item in record.contributions if item.round == number}
        case Phase.CONSENSUS:
            number = int(phase.detail.get("round", 0))
            answered = {vote.role for vote in record.votes if vote.round == number}
        case Phase.SYNTHESIS:
            answered = set()
    return tuple(role for role in asked if role not in answered)
