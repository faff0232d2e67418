"""Minutes: complete, and inert whatever was written into them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime

from echo_core.organisation import Organisation
from echo_core.snapshot import AgentView, Snapshot
from echo_core.workflow.minutes import minutes, plain, to_json
from echo_core.workflow.record import (
    ContributionRecord,
    DecisionRecord,
    ParticipationRecord,
    PhaseRecord,
    VoteRecord,
)

HOSTILE = "a|b\n# c [x](javascript:1) <script>&amp; `r` \x1b[31mred\x07 \u202eevil\u200b zal" + "\u0301" * 50
AT = datetime(2026, 11, 24, 14, 0, tzinfo=UTC)

RECORD = DecisionRecord(
    id="5f0c1e52-0000-4000-8000-000000000000",
    number=42,
    subject="Move the database?",
    body="On Friday.\nAll of it.",
    mode="collaborative",
    pace="auto",
    paused=False,
    status="approved",
    phase=6,
    inserted_at=AT,
    completed_at=AT,
    consensus_score=0.714,
    phases=(
        PhaseRecord(1, "completed", AT, AT, 1.25),
        PhaseRecord(3, "completed", AT, AT, 2.0, {"reason": "no answer from chro"}),
    ),
    participations=(ParticipationRecord("cto", "lead", 0.9, "databases", "keywords"),),
    contributions=(ContributionRecord("cto", 1, "We rehearse it first.", "llm", "for"),),
    votes=(VoteRecord("chro", 1, "reject", 0.5, "People are tired.", "rules"),),
    outcome={
        "summary": "We go ahead.",
        "rationale": "It pays.",
        "actions": [{"what": "Rehearse it", "owner": "cto", "due": "within 2 weeks"}],
        "dissent": [{"role": "chro", "text": "People are tired."}],
        "source": "rules",
    },
    degraded=("chro did not answer in phase 3",),
)


def test_minutes_say_what_was_decided_by_whom_and_how(organisation: Organisation) -> None:
    text = minutes(RECORD, organisation)
    for said in (
        "# Move the database?",
        "> On Friday.",
        "> All of it.",
        "**Decision #42: approved.** Score 0.71, needed 0.60.",
        "We go ahead.",
        "- Rehearse it — **CTO**, within 2 weeks",
        "- **CHRO**: People are tired.",
        "- **CTO** (for, by a model): We rehearse it first.",
        "| 1 | CHRO | reject | 0.50 | People are tired. | rules |",
        "- 1 Startup: completed, 1.2 s",
        "- 3 Self-selection: completed, 2.0 s: no answer from chro",
        "CTO lead 0.90 (by keywords)",
        "2 from rules",
        "- Missing: chro did not answer in phase 3",
    ):
        assert said in text, said


def test_a_decision_that_waits_for_a_person_never_reads_as_made(organisation: Organisation) -> None:
    text = minutes(replace(RECORD, status="escalated"), organisation)
    assert "escalated to the operator: nothing is decided yet" in text


def test_hostile_text_stays_text_in_every_field(organisation: Organisation) -> None:
    hostile = replace(
        RECORD,
        subject=HOSTILE,
        body=HOSTILE,
        phases=(PhaseRecord(3, "failed", AT, AT, 1.0, {"reason": HOSTILE}),),
        contributions=(ContributionRecord("cto", 1, HOSTILE, "llm", "for"),),
        votes=(VoteRecord("cto", 1, "approve", 0.5, HOSTILE, "llm"),),
        outcome={
            "summary": HOSTILE,
            "rationale": HOSTILE,
            "actions": [{"what": HOSTILE, "owner": HOSTILE, "due": HOSTILE}],
            "dissent": [{"role": HOSTILE, "text": HOSTILE}],
            "source": "llm",
        },
        degraded=(HOSTILE,),
    )
    text = minutes(hostile, organisation)
    assert text.count("evil") == 13  # in every field
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069]", text)
    assert "<script" not in text.replace("\\<script", "")
    assert not re.search(r"(?<!\\)\[x\]|(?<!\\)`r|\u0301{6}", text)
    assert len([line for line in text.splitlines() if line.startswith("# ")]) == 1
    (row,) = [line for line in text.splitlines() if line.startswith("| 1 |")]
    assert len(re.findall(r"(?<!\\)\|", row)) == 7


def test_plain_leaves_ordinary_words_as_they_are() -> None:
    assert plain("Ten % more, “für alle” 日本") == "Ten % more, “für alle” 日本"
    assert plain("<b>") == "\\<b\\>"
    assert (plain("~~~"), plain("- x"), plain("a - b")) == ("\\~\\~\\~", "\\- x", "a - b")


def test_json_has_the_keys_that_scripts_rely_on() -> None:
    snapshot = Snapshot(0.0, "/d", "ECHO", "", "", 1, agents=(AgentView("cto", 1, "CTO", "healthy", pid=7),))
    value = json.loads(json.dumps(to_json(RECORD, snapshot)))
    assert value["agents"] == [{"role": "cto", "pid": 7, "state": "healthy"}]
    assert value["phases"][1] == {
        "phase": 3,
        "name": "self_selection",
        "state": "completed",
        "seconds": 2.0,
        "reason": "no answer from chro",
    }
    assert value["outcome"]["dissent"] == [{"role": "chro", "text": "People are tired."}]
    assert value["degraded"] == ["chro did not answer in phase 3"]
    assert to_json(replace(RECORD, outcome=None))["outcome"] is None
