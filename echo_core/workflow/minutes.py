"""A decision as the minutes of a good meeting (Markdown), and as one JSON object."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from echo_core.errors import EchoError
from echo_core.logs import escaped
from echo_core.organisation import Organisation
from echo_core.snapshot import Snapshot
from echo_core.workflow.record import DecisionRecord, Phase, VoteRecord

COPIES = 999  # of one decision in one folder: more is a mistake

_MARKDOWN = re.compile(r"([\\`*_\[\]<>|#~]|^[-+=])")
_STATUS = {
    "approved": "approved",
    "rejected": "rejected",
    "escalated": "escalated to the operator: nothing is decided yet",
    "cancelled": "cancelled",
    "pending": "still open",
}
_BY = {"llm": "a model", "keywords": "keywords", "rules": "rules", "operator": "the operator"}


def minutes(record: DecisionRecord, organisation: Organisation) -> str:
    """Markdown. What people, agents and models wrote is shown as text, whatever it contains."""
    return "\n".join(_lines(record, _Titles(organisation))) + "\n"


def write_minutes(text: str, folder: Path, number: int) -> Path:
    """Writes `decision-<number>.md`, or `-2`, `-3`… beside what is there. Raises EchoError when it can't."""
    for attempt in range(1, COPIES + 1):
        path = folder / f"decision-{number}{f'-{attempt}' if attempt > 1 else ''}.md"
        try:
            with path.open("x", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
        except FileExistsError:
            continue
        except OSError as error:
            raise EchoError(f"{path} can't be written ({error.strerror}); start ECHO in a folder that is yours") from error
        return path
    raise EchoError(f"{folder} holds {COPIES} copies of decision {number} already; remove some")


class _Titles:
    def __init__(self, organisation: Organisation) -> None:
        self._roles = organisation.roles

    def of(self, role: str) -> str:
        return self._roles[role].title if role in self._roles else plain(role.replace("_", " ").capitalize())


def _lines(record: DecisionRecord, titles: _Titles) -> Iterable[str]:
    outcome = record.outcome or {}
    yield f"# {plain(record.subject)}"
    yield ""
    if record.body:
        for line in record.body.splitlines():
            yield f"> {plain(line)}"
        yield ""
    score = "" if record.consensus_score is None else f" Score {record.consensus_score:.2f}, needed {record.threshold:.2f}."
    yield f"**Decision #{record.number}: {_STATUS[record.status]}.**{score}"
    yield ""
    if outcome.get("summary"):
        yield plain(outcome["summary"])
        yield ""
    if outcome.get("rationale"):
        yield from ("## Why", "", plain(outcome["rationale"]), "")
    if outcome.get("actions"):
        yield from ("## Actions", "")
        for action in outcome["actions"]:
            due = f", {plain(action['due'])}" if action.get("due") else ""
            yield f"- {plain(action['what'])} — **{titles.of(action['owner'])}**{due}"
        yield ""
    if outcome.get("dissent"):
        yield from ("## Dissent", "")
        for dissent in outcome["dissent"]:
            yield f"- **{titles.of(dissent['role'])}**: {plain(dissent['text'])}"
        yield ""
    yield from _positions(record, titles)
    yield from _votes(record.votes, titles)
    yield from _made(record, titles)


def _positions(record: DecisionRecord, titles: _Titles) -> Iterable[str]:
    if not record.contributions:
        return
    yield from ("## Positions", "")
    for number in sorted({item.round for item in record.contributions}):
        yield from (f"### Round {number}", "")
        for item in record.contributions:
            if item.round == number:
                how = f"{item.position}, by {_BY.get(item.source, '?')}" if item.position else "speaking"
                yield f"- **{titles.of(item.role)}** ({how}): {plain(item.text)}"
        yield ""


def _votes(votes: Sequence[VoteRecord], titles: _Titles) -> Iterable[str]:
    if not votes:
        return
    yield from ("## Votes", "", "| Round | Role | Vote | Confidence | Why | By |", "|---|---|---|---|---|---|")
    for vote in votes:
        by = _BY.get(vote.source, "?")
        who = f"{vote.round} | {titles.of(vote.role)} | {vote.vote} | {vote.confidence:.2f}"
        yield f"| {who} | {plain(vote.rationale)} | {by} |"
    yield ""


def _made(record: DecisionRecord, titles: _Titles) -> Iterable[str]:
    yield from ("## How it was made", "")
    for phase in record.phases:
        took = "" if phase.seconds is None else f", {phase.seconds:.1f} s"
        why = f": {plain(phase.detail['reason'])}" if phase.detail.get("reason") else ""
        yield f"- {phase.phase} {Phase(phase.phase).title}: {phase.state}{took}{why}"
    if record.participations:
        stances = ", ".join(
            f"{titles.of(item.role)} {item.stance} {item.confidence:.2f} (by {_BY.get(item.source, '?')})"
            for item in record.participations
        )
        yield f"- Stances: {stances}"
    answers = [item.source for item in record.contributions] + [vote.source for vote in record.votes]
    if record.outcome and record.outcome.get("source"):
        answers.append(record.outcome["source"])
    if answers:
        counted = ", ".join(f"{answers.count(source)} from {_BY.get(source, '?')}" for source in dict.fromkeys(answers))
        yield f"- Positions, votes and outcome: {counted}"
    yield f"- Mode {record.mode}, opened {record.inserted_at:%Y-%m-%d %H:%M:%S} UTC"
    for note in record.degraded:
        yield f"- Missing: {plain(note)}"


def plain(text: object) -> str:
    """Data inside Markdown: one inert line that means nothing to Markdown, HTML or a terminal."""
    flat = escaped(" ".join(str(text).split()))
    return _MARKDOWN.sub(r"\\\1", flat).replace("&", "&amp;")


def to_json(record: DecisionRecord, snapshot: Snapshot | None = None) -> dict[str, Any]:
    """What `run --json` and `export --format json` print. `agents` is empty without a snapshot."""
    outcome = record.outcome or {}
    return {
        "decision_id": record.id,
        "number": record.number,
        "subject": record.subject,
        "body": record.body,
        "status": record.status,
        "mode": record.mode,
        "consensus_score": record.consensus_score,
        "participants": [
            {"role": p.role, "stance": p.stance, "confidence": p.confidence, "source": p.source, "reasoning": p.reasoning}
            for p in record.participations
        ],
        "votes": [
            {
                "role": v.role,
                "round": v.round,
                "vote": v.vote,
                "confidence": v.confidence,
                "rationale": v.rationale,
                "source": v.source,
            }
            for v in record.votes
        ],
        "contributions": [
            {"role": c.role, "round": c.round, "text": c.text, "position": c.position, "source": c.source}
            for c in record.contributions
        ],
        "outcome": {
            "summary": outcome.get("summary", ""),
            "rationale": outcome.get("rationale", ""),
            "actions": outcome.get("actions", []),
            "dissent": outcome.get("dissent", []),
            "source": outcome.get("source"),
        }
        if record.outcome
        else None,
        "phases": [
            {
                "phase": p.phase,
                "name": Phase(p.phase).name.lower(),
                "state": p.state,
                "seconds": None if p.seconds is None else round(p.seconds, 3),
                "reason": p.detail.get("reason", ""),
            }
            for p in record.phases
        ],
        "agents": [{"role": a.role, "pid": a.pid, "state": a.state} for a in (snapshot.agents if snapshot else ())],
        "degraded": list(record.degraded),
    }
