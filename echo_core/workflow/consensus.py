"""Counting votes. The formula is here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from echo_core.minds.protocol import Tally, Vote
from echo_core.organisation import Organisation

STANCE_WEIGHTS = {"lead": 1.0, "assist": 0.6}

ROUNDING = 1e-9  # a score that is the threshold but for the last binary digit has reached it

Verdict = Literal["approved", "rejected", "no consensus", "no quorum"]


def effective_mode(mode: str, organisation: Organisation, leads: Sequence[str], largest_amount_usd: float) -> str:
    """`autonomous` holds only while the money named stays within every lead's authority; otherwise it is collaborative."""
    if mode != "autonomous":
        return mode
    limits = [organisation.role(role).authority_limit_usd for role in leads if role in organisation.roles]
    within = bool(limits) and all(limit is None or largest_amount_usd <= limit for limit in limits)
    return "autonomous" if within else "collaborative"


def count(
    votes: Sequence[Vote], stances: Mapping[str, str], organisation: Organisation, *, mode: str = "collaborative"
) -> Tally:
    """The tally of one round of votes.

    weight(v) = stance weight (lead 1.0, assist 0.6) x the voter's confidence
    score     = sum of weights of approve / sum of weights of approve and reject        (abstentions weigh nothing)
    quorum    = voters for or against / participants (lead and assist) >= organisation.quorum

    approved if score >= threshold, rejected if score <= 1 - threshold, else no consensus; without quorum always
    "no quorum". Who counts depends on the mode: collaborative and human, all participants; autonomous, the leads only;
    hierarchical, the leader's own vote decides once the quorum of all participants is reached.
    """
    voters = {role: stance for role, stance in stances.items() if stance in STANCE_WEIGHTS}
    if mode == "autonomous":
        voters = {role: stance for role, stance in voters.items() if stance == "lead"}
    cast = {vote.role: vote for vote in votes if vote.role in voters and vote.vote != "abstain"}
    quorum = bool(voters) and len(cast) / len(voters) >= organisation.quorum and bool(cast)
    deciding = cast
    if mode == "hierarchical":
        leader = organisation.leader.role
        deciding = {role: vote for role, vote in cast.items() if role == leader}
        quorum = quorum and bool(deciding)
    weights = {role: STANCE_WEIGHTS[voters[role]] * vote.confidence for role, vote in deciding.items()}
    total = sum(weights.values())
    score = None if not total else sum(weights[role] for role, vote in deciding.items() if vote.vote == "approve") / total
    return Tally(
        score=None if score is None else round(score, 4),
        threshold=organisation.threshold,
        quorum_reached=quorum,
        verdict=_verdict(score, quorum, organisation.threshold),
    )


def _verdict(score: float | None, quorum: bool, threshold: float) -> Verdict:
    if not quorum or score is None:
        return "no quorum"
    if score >= threshold - ROUNDING:
        return "approved"
    return "rejected" if score <= 1 - threshold + ROUNDING else "no consensus"
