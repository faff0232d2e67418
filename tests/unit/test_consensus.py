"""The count: who weighs what, and when it is a decision."""

from __future__ import annotations

from dataclasses import replace

import pytest

from echo_core.minds.protocol import Vote
from echo_core.organisation import Organisation
from echo_core.workflow.consensus import count, effective_mode


def vote(role: str, ballot: str, confidence: float = 1.0) -> Vote:
    return Vote(role=role, vote=ballot, confidence=confidence, rationale="because")  # type: ignore[arg-type]


def test_the_score_weighs_stance_and_confidence(organisation: Organisation) -> None:
    stances = {"cto": "lead", "chro": "assist", "ceo": "assist"}
    tally = count(
        [vote("cto", "approve", 0.9), vote("chro", "reject", 0.5), vote("ceo", "reject", 0.5)], stances, organisation
    )
    assert tally.score == pytest.approx(0.9 / (0.9 + 0.3 + 0.3))
    assert (tally.verdict, tally.quorum_reached, tally.threshold) == ("approved", True, 0.6)


def test_a_score_at_the_threshold_is_enough_and_its_mirror_rejects(organisation: Organisation) -> None:
    stances = {"cto": "lead", "chro": "lead"}

    def verdict(approve: float, reject: float) -> str:
        return count([vote("cto", "approve", approve), vote("chro", "reject", reject)], stances, organisation).verdict

    assert verdict(0.6, 0.4) == "approved"
    assert verdict(0.3, 0.2) == "approved"
    assert verdict(0.59, 0.41) == "no consensus"
    assert verdict(0.41, 0.59) == "no consensus"
    assert verdict(0.4, 0.6) == "rejected"


def test_abstentions_weigh_nothing_and_do_not_help_the_quorum(organisation: Organisation) -> None:
    stances = dict.fromkeys(("cto", "chro", "ceo", "operations_head"), "lead")
    two = [vote("cto", "approve"), vote("chro", "approve"), vote("ceo", "abstain")]
    assert (count(two, stances, organisation).verdict, count(two, stances, organisation).score) == ("approved", 1.0)
    one = [vote("cto", "approve"), vote("chro", "abstain"), vote("ceo", "abstain")]
    assert (count(one, stances, organisation).verdict, count(one, stances, organisation).quorum_reached) == (
        "no quorum",
        False,
    )


def test_nobody_voting_is_no_quorum_even_where_none_is_asked_for(organisation: Organisation) -> None:
    lax = replace(organisation, quorum=0.0)
    for votes in ([], [vote("cto", "abstain")], [vote("cto", "approve", 0.0)]):
        tally = count(votes, {"cto": "lead"}, lax)
        assert (tally.verdict, tally.score) == ("no quorum", None)


def test_onlookers_and_strangers_do_not_vote(organisation: Organisation) -> None:
    stances = {"cto": "lead", "chro": "observe", "ceo": "none"}
    votes = [vote("cto", "approve"), vote("chro", "reject"), vote("ceo", "reject"), vote("test_lead", "reject")]
    assert count(votes, stances, organisation).score == 1.0


def test_autonomous_counts_the_leads_alone(organisation: Organisation) -> None:
    stances = {"cto": "lead", "chro": "assist", "ceo": "assist"}
    votes = [vote("cto", "approve"), vote("chro", "reject"), vote("ceo", "reject")]
    assert count(votes, stances, organisation, mode="autonomous").verdict == "approved"
    assert count(votes, stances, organisation).verdict != "approved"


def test_hierarchical_is_the_leader_s_vote_once_enough_have_voted(organisation: Organisation) -> None:
    stances = {"ceo": "assist", "cto": "lead", "chro": "lead"}
    everyone = [vote("ceo", "reject", 0.1), vote("cto", "approve"), vote("chro", "approve")]
    assert count(everyone, stances, organisation, mode="hierarchical").verdict == "rejected"
    assert count(everyone[:1], stances, organisation, mode="hierarchical").verdict == "no quorum"
    assert count(everyone[1:], stances, organisation, mode="hierarchical").verdict == "no quorum"


def test_a_human_decision_is_counted_like_a_common_one(organisation: Organisation) -> None:
    votes = [vote("cto", "approve")]
    assert count(votes, {"cto": "lead"}, organisation, mode="human") == count(votes, {"cto": "lead"}, organisation)


def test_autonomy_ends_where_the_money_exceeds_a_lead_s_authority(organisation: Organisation) -> None:
    limit = organisation.role("cto").authority_limit_usd
    assert limit is not None
    assert effective_mode("autonomous", organisation, ["cto"], limit) == "autonomous"
    assert effective_mode("autonomous", organisation, ["cto"], limit + 1) == "collaborative"
    assert effective_mode("autonomous", organisation, [], 0) == "collaborative"
    assert effective_mode("human", organisation, ["cto"], limit + 1) == "human"
