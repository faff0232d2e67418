"""Fixed, realistic values for pictures and tests of the screens: one organisation, one question, one moment (UTC)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from echo_core.bus.message import Message
from echo_core.errors import DatabaseUnavailable
from echo_core.settings import Settings
from echo_core.snapshot import AgentView, DependencyView, LaunchView, Snapshot
from echo_core.workflow.record import (
    ContributionRecord,
    DecisionRecord,
    ParticipationRecord,
    PhaseRecord,
    ReceiptRecord,
    VoteRecord,
)
from echo_tui.state import RoomState

NOW = datetime(2026, 11, 24, 14, 2, 31, tzinfo=UTC)
OPENED = NOW - timedelta(seconds=64)
DECISION_ID = "6f1d2c9e-4b7a-4c55-9c11-2f0a8e5d7b31"
NUMBER = 7
SUBJECT = "Migrate billing to PostgreSQL 18 before the year ends?"
BODY = (
    "Billing still runs on the old MySQL server. The vendor ends support in March.\n"
    "The move costs about $40,000 and two weeks of the platform team."
)
TITLES = {
    "ceo": "CEO",
    "cto": "CTO",
    "chro": "CHRO",
    "product_manager": "Product manager",
    "senior_architect": "Senior architect",
    "operations_head": "Operations head",
}
HOSTILE = "[bold]x[/] [/] \x1b[31mred\x1b[0m \u202eterces\u202c"
UNREACHABLE = DatabaseUnavailable("PostgreSQL can't be reached (connection refused)")
STANCES = {"cto": "lead", "senior_architect": "lead", "product_manager": "assist", "operations_head": "assist"}

_PIDS = {role: 41_201 + 13 * index for index, role in enumerate(TITLES)}
_ACTIVITY = {"cto": "judging #7"}
_SECONDS = (12.4, 1.1, 4.2, 21.7, 6.3, 9.0)  # how long each phase took
# (since the opening) when each phase began
_BEGAN = (0.0, 12.4, 13.5, 17.7, 39.4, 45.7)


# -- the organisation --------------------------------------------------------------------------------------------------


def agent(role: str, state: str = "healthy", **changes: Any) -> AgentView:
    """A well agent, unless told otherwise."""
    index = list(TITLES).index(role) if role in TITLES else 0
    values: dict[str, Any] = {
        "role": role,
        "instance": 1,
        "title": TITLES.get(role, role),
        "state": state,
        "pid": _PIDS.get(role, 41_999),
        "activity": "idle",
        "heartbeat_age": round(0.2 + 0.3 * index, 1),
        "mind": "rules",
        "rss_bytes": 47_300_000 + 600_000 * index,
        "cpu_percent": round(0.3 + 0.2 * index, 1),
        "log_path": f"~/.local/share/echo/logs/{role}.log",
    }
    return AgentView(**{**values, **changes})


def agents() -> tuple[AgentView, ...]:
    """Six well agents, the CTO busy."""
    busy = agent("cto", "busy", activity="judging #7", waiting=1, cpu_percent=14.2)
    return tuple(busy if role == "cto" else agent(role) for role in TITLES)


def crashed_agents() -> tuple[AgentView, ...]:
    """The same, with the operations head killed and about to be started again."""
    dead = agent(
        "operations_head",
        "crashed",
        pid=None,
        heartbeat_age=3.1,
        breaker="open",
        exit="killed by SIGKILL",
        restart_in=4.0,
        crashes=2,
        waiting=1,
        activity="",
    )
    return (*agents()[:-1], dead)


def launching_agents() -> tuple[AgentView, ...]:
    """Two up, one starting, three still to be launched."""
    nothing: dict[str, Any] = {"heartbeat_age": None, "mind": "", "activity": "", "rss_bytes": 0, "cpu_percent": 0.0}
    later = [agent(role, "starting", pid=None, **nothing) for role in list(TITLES)[3:]]
    return (agent("ceo"), agent("cto"), agent("chro", "starting", pid=41_227, **nothing), *later)


def snapshot(*, crashed: bool = False, launching: bool = False, ollama: bool = False, **changes: Any) -> Snapshot:
    """What the supervisor says; `ollama` with two installed models."""
    light = DependencyView("ollama", "up", "2 models") if ollama else DependencyView("ollama", "off", "rules")
    values: dict[str, Any] = {
        "at": NOW.timestamp(),
        "data_dir": "~/.local/share/echo",
        "organisation": "Acme Robotics",
        "database_url": "postgresql://echo@/echo?host=/tmp/echo-1000-4f21",
        "redis_url": "unix:///tmp/echo-1000-4f21/valkey.sock",
        "supervisor_pid": 41_180,
        "conductor_pid": 41_188,
        "conductor_state": "healthy",
        "dependencies": (DependencyView("postgresql", "up"), DependencyView("redis", "up"), light),
        "agents": launching_agents() if launching else crashed_agents() if crashed else agents(),
        "launch": LaunchView(("product_manager", "senior_architect", "operations_head"), 1.4) if launching else LaunchView(),
        "pending": 3 if crashed else 1,
        "models": ("llama3.2:latest", "mistral:7b-instruct") if ollama else (),
        "ollama_host": "127.0.0.1:11434",
    }
    if ollama:
        values["agents"] = tuple(replace(each, mind="llama3.2:latest") for each in values["agents"])
    return Snapshot(**{**values, **changes})


# -- the decision ------------------------------------------------------------------------------------------------------


def decision_in_phase(phase: int, *, waiting: bool = False, **changes: Any) -> DecisionRecord:
    """Open, in the middle of this phase; `waiting`: before it, for the operator's `n`."""
    state = "waiting" if waiting else "running"
    phases = [_phase(number, "completed") for number in range(1, phase)]
    detail = {"waiting_for": "operator"} if waiting else _running_detail(phase)
    began = None if waiting else OPENED + timedelta(seconds=_BEGAN[phase - 1])
    phases.append(PhaseRecord(phase, state, began, None, None if waiting else 4.0, detail))
    phases += [PhaseRecord(number, "pending") for number in range(phase + 1, 7)]
    reached = phase if not waiting else phase - 1
    told = [
        ReceiptRecord(role, "handled" if reached > 2 or index < 4 else "pending", 1) for index, role in enumerate(TITLES)
    ]
    values: dict[str, Any] = {
        "id": DECISION_ID,
        "number": NUMBER,
        "subject": SUBJECT,
        "body": BODY,
        "mode": "collaborative",
        "pace": "step",
        "paused": False,
        "status": "pending",
        "phase": phase,
        "inserted_at": OPENED,
        "participants": tuple(STANCES) if reached > 3 else (),
        "phases": tuple(phases),
        "receipts": tuple(told) if reached > 1 else (),
        "participations": _participations()[: 6 if reached > 3 else 4] if reached > 2 else (),
        "contributions": _contributions(9 if reached > 4 else 6) if reached > 3 else (),
        "votes": _votes()[: 4 if reached > 5 else 3] if reached > 4 else (),
        "consensus_score": 0.7463 if reached > 5 else None,
    }
    return DecisionRecord(**{**values, **changes})


def decided(**changes: Any) -> DecisionRecord:
    """Approved, with a dissent, actions and one answer missing."""
    phases = tuple(_phase(number, "completed") for number in range(1, 7))
    return replace(
        decision_in_phase(6),
        **{
            "status": "approved",
            "phases": phases,
            "outcome": outcome(),
            "completed_at": OPENED + timedelta(seconds=54.7),
            "degraded": ("operations_head did not answer in phase 4",),
            **changes,
        },
    )


def escalated(**changes: Any) -> DecisionRecord:
    """No consensus: it waits for the operator's word."""
    tally = {"score": 0.5214, "threshold": 0.6, "quorum_reached": True, "verdict": "no consensus"}
    phases = list(decided().phases)
    phases[4] = replace(phases[4], state="failed", detail={**phases[4].detail, "tally": tally, "reason": "no consensus"})
    phases[5] = replace(
        phases[5], state="waiting", finished_at=None, detail={"waiting_for": "approval", "reason": "no consensus"}
    )
    votes = (
        *_votes()[:1],
        replace(_votes()[1], vote="reject", rationale="No date holds before the freeze."),
        *_votes()[2:],
    )
    summary = "The organisation is divided: two for the migration, two against it."
    return decided(
        status="escalated",
        phases=tuple(phases),
        votes=votes,
        consensus_score=0.5214,
        completed_at=None,
        outcome={**outcome(), "summary": summary},
        **changes,
    )


def outcome() -> dict[str, Any]:
    return {
        "summary": "Approved: billing moves to PostgreSQL 18, with both databases running side by side until the invoices "
        "of one whole month agree.",
        "rationale": "Support for the old server ends in March, and the move gets no cheaper. Running both answers "
        "the strongest objection: nobody has to trust the new numbers before they were compared.",
        "actions": [
            {
                "what": "Run both databases in parallel and compare every invoice before the switch",
                "owner": "senior_architect",
                "due": "within 4 weeks",
            },
            {
                "what": "Rehearse the way back on a copy",
                "owner": "operations_head",
                "due": "within 2 weeks",
            },
            {"what": "Tell the twelve customers with custom invoices", "owner": "product_manager", "due": "2026-12-04"},
        ],
        "dissent": [
            {
                "role": "operations_head",
                "text": "A migration in the last weeks of the year meets the change freeze and the thinnest on-call roster "
                "we have. I would start in January.",
            }
        ],
        "source": "rules",
    }


def _phase(number: int, state: str) -> PhaseRecord:
    began = OPENED + timedelta(seconds=_BEGAN[number - 1])
    seconds = _SECONDS[number - 1]
    detail: dict[str, Any] = {}
    if number > 2:
        detail["asked"] = ["ceo"] if number == 6 else list(TITLES) if number == 3 else list(STANCES)
    if number == 3:
        detail["stances"] = STANCES
    if number == 4:
        detail |= {"round": 2, "rounds": 2, "reason": "no answer from operations_head"}
    if number == 5:
        tally = {"score": 0.7463, "threshold": 0.6, "quorum_reached": True, "verdict": "approved"}
        detail |= {"round": 1, "threshold": 0.6, "quorum": 0.5, "tally": tally}
    return PhaseRecord(number, state, began, began + timedelta(seconds=seconds), seconds, detail)


def _running_detail(phase: int) -> dict[str, Any]:
    detail = {
        key: value for key, value in _phase(phase, "running").detail.items() if key not in ("reason", "tally", "stances")
    }
    return {**detail, "since": NOW.timestamp() - 4}


def _participations() -> tuple[ParticipationRecord, ...]:
    return (
        ParticipationRecord("senior_architect", "lead", 0.91, "database, migrate, postgresql", "keywords"),
        ParticipationRecord("cto", "lead", 0.86, "a change of platform with a deadline", "keywords"),
        ParticipationRecord("product_manager", "assist", 0.61, "customers see the invoices", "keywords"),
        ParticipationRecord(
            "operations_head", "assist", 0.58, "whoever migrates, we carry the pager", "llm", "llama3.2:latest", 2140.0
        ),
        ParticipationRecord("ceo", "observe", 0.34, "within the budget of the CTO", "keywords"),
        ParticipationRecord("chro", "none", 0.08, "nothing here touches people policy", "keywords"),
    )


def _contributions(most: int) -> tuple[ContributionRecord, ...]:
    said = (
        (
            "cto",
            1,
            "for",
            "rules",
            "March is not a date we can move. What does the way back cost us?",
        ),
        (
            "senior_architect",
            1,
            "for",
            "rules",
            "Old and new can run side by side until the numbers agree; I would compare every record before the switch.",
        ),
        (
            "product_manager",
            1,
            "conditional",
            "rules",
            "Twelve customers have custom invoices. I am for it if they hear about it from us first.",
        ),
        (
            "operations_head",
            1,
            "against",
            "llm",
            "A migration in the last weeks of the year meets the change freeze and the thinnest on-call roster we have.",
        ),
        (
            "operator",
            1,
            "conditional",
            "operator",
            "The change freeze begins on December 15. Nothing switches after it.",
        ),
        (
            "cto",
            2,
            "for",
            "rules",
            "With both running the freeze is no obstacle: the switch itself can wait for January.",
        ),
        (
            "senior_architect",
            2,
            "for",
            "rules",
            "Agreed with the CTO: parallel running starts now, the switch is one line of configuration later.",
        ),
        ("product_manager", 2, "for", "rules", "Nothing changes for customers before January; that answers my condition."),
    )
    return tuple(
        ContributionRecord(role, number, text, source, position, 20 + index, OPENED + timedelta(seconds=18 + 2 * index))
        for index, (role, number, position, source, text) in enumerate(said[:most])
    )


def _votes() -> tuple[VoteRecord, ...]:
    return (
        VoteRecord("cto", 1, "approve", 0.84, "The date is fixed and the risk is bounded by running both.", "rules"),
        VoteRecord("senior_architect", 1, "approve", 0.88, "Each step can be undone until the last.", "rules"),
        VoteRecord("operations_head", 1, "reject", 0.72, "The roster is too thin before January.", "llm"),
        VoteRecord("product_manager", 1, "approve", 0.64, "Customers are told first.", "rules"),
    )


# -- the room ----------------------------------------------------------------------------------------------------------


def room(decision: DecisionRecord | None = None, **changes: Any) -> RoomState:
    """A calm room; `snapshot=None` for one whose supervisor has not answered."""
    values: dict[str, Any] = {"snapshot": snapshot(), "decision": decision, "titles": TITLES}
    values["open_decisions"] = int(decision is not None and decision.completed_at is None)
    return RoomState(**{**values, **changes})


def hostile_room() -> RoomState:
    """Every text that somebody else wrote tries to be markup, an escape sequence or invisible."""
    base = decided()
    record = replace(
        base,
        subject=f"Subject {HOSTILE}",
        body=f"Body {HOSTILE}\nsecond line [/]",
        degraded=(f"missing {HOSTILE}",),
        contributions=tuple(replace(each, text=f"{HOSTILE} {each.text}") for each in base.contributions),
        votes=tuple(replace(each, rationale=f"{HOSTILE} {each.rationale}") for each in base.votes),
        participations=tuple(replace(each, reasoning=HOSTILE) for each in base.participations),
        outcome={
            "summary": HOSTILE,
            "rationale": HOSTILE,
            "actions": [{"what": HOSTILE, "owner": "[/]cto", "due": HOSTILE}],
            "dissent": [{"role": "[bold]", "text": HOSTILE}],
            "source": "llm",
        },
    )
    agents = tuple(
        replace(each, activity=HOSTILE, mind=f"[/]{each.mind}", title=f"{each.title} [/]") for each in crashed_agents()
    )
    agents = (*agents[:-1], replace(agents[-1], exit=HOSTILE))
    shown = snapshot(
        agents=agents,
        organisation=HOSTILE,
        dependencies=(DependencyView("postgresql", "down", HOSTILE), DependencyView("ollama", "up", "1 models")),
        models=(f"evil{HOSTILE}",),
        ollama_host=f"[/]{HOSTILE}",
        data_dir="/tmp/[bold]x[/]",
    )
    return RoomState(snapshot=shown, decision=record, titles={**TITLES, "cto": f"CTO {HOSTILE}"}, problem=HOSTILE)


# -- what stands in the database ---------------------------------------------------------------------------------------

Delivery = dict[str, Any]


def messages(text: str = "") -> list[tuple[Message, list[Delivery]]]:
    """Newest first; #19 has a dead letter. `text` goes into every subject, body and error."""

    def made(number: int, sender: str, to: str, kind: str, subject: str, body: str, states: dict[str, str]) -> Any:
        message = Message(
            sender,
            to,
            kind,
            f"{subject}{text}",
            {"body": f"{body}{text}"},
            decision_id=DECISION_ID,
            uid=f"00000000-0000-4000-8000-{number:012d}",
            id=number,
            inserted_at=OPENED + timedelta(seconds=number),
        )
        error = f"the handler failed: KeyError: 'amount'{text}"
        deliveries = [
            {
                "message_id": number,
                "role": role,
                "state": state,
                "attempts": 5 if state == "dead" else int(state != "pending"),
                "error": error if state == "dead" else None,
            }
            for role, state in states.items()
        ]
        return message, deliveries

    heard = dict.fromkeys(TITLES, "handled")
    return [
        made(23, "conductor", "ceo", "request", SUBJECT, BODY, {"ceo": "claimed"}),
        made(22, "cto", "conductor", "response", "cto contributes", "March is fixed.", {"conductor": "handled"}),
        made(21, "conductor", "senior_architect", "request", SUBJECT, BODY, {"senior_architect": "pending"}),
        made(19, "operator", "leadership", "notification", "Board meeting moved to Friday", "The board meets at ten, "
             "in the small room.\nPlease bring the figures for November.",
             {"ceo": "handled", "cto": "dead", "chro": "handled"}),
        made(7, "operator", "all", "request", SUBJECT, BODY, heard),
    ]  # fmt: skip


def decision_rows() -> list[dict[str, Any]]:
    """What lists decisions, newest first."""
    rows = [
        (DECISION_ID, 7, SUBJECT, "pending", 5, None, OPENED),
        ("a1", 5, "Open an office in Lisbon?", "rejected", 6, 0.28, OPENED - timedelta(hours=2)),
        (
            "a2",
            3,
            "Raise prices by 8 % for new customers?",
            "escalated",
            6,
            0.52,
            OPENED - timedelta(hours=5),
        ),
        ("a3", 1, "Four-day week as a trial in the spring?", "approved", 6, 0.83, OPENED - timedelta(days=1)),
    ]
    names = ("id", "number", "subject", "status", "phase", "score", "inserted_at")
    return [{**dict(zip(names, row, strict=True)), "mode": "collaborative", "completed_at": None} for row in rows]


def model_calls() -> list[dict[str, Any]]:
    def row(
        role: str, calls: int, failed: int, load: float | None, first: float, total: float, prompt: int, output: int
    ) -> Any:
        return {
            "role": role,
            "model": "llama3.2:latest",
            "calls": calls,
            "failed": failed,
            "load_ms": load,
            "first_token_ms": first,
            "total_ms": total,
            "prompt_tokens": prompt,
            "output_tokens": output,
        }

    return [
        row("ceo", 1, 0, 812.0, 1460.2, 9034.8, 2210, 412),
        row("cto", 4, 0, 0.0, 640.4, 3120.9, 5120, 733),
        row("operations_head", 4, 1, 0.0, 702.6, 3540.1, 5044, 690),
    ]


class FixedLink:
    """Answers as the control room's link does, from the values above; remembers what was asked of it."""

    def __init__(self, text: str = "") -> None:
        self.text = text
        self.settings = Settings.load(environ={})
        self.retried: list[tuple[int, str | None]] = []
        self.chosen: str | None = None
        self.error: Exception | None = None
        self.newer = 0  # messages that came since

    async def messages(self, *, dead: bool = False, limit: int = 200) -> list[tuple[Message, list[Delivery]]]:
        self._fail()
        found = messages(self.text)
        newest = found[0]
        found = [(newest[0].stored(23 + n, NOW, DECISION_ID), newest[1]) for n in range(self.newer, 0, -1)] + found
        return [each for each in found if not dead or any(owed["state"] == "dead" for owed in each[1])][:limit]

    async def retry(self, message_id: int, role: str | None = None) -> int:
        self._fail()
        self.retried.append((message_id, role))
        return 1

    async def decisions(self, limit: int = 100) -> list[dict[str, Any]]:
        self._fail()
        return [{**row, "subject": row["subject"] + self.text} for row in decision_rows()][:limit]

    async def choose(self, decision_id: str | None) -> None:
        self.chosen = decision_id

    async def model_calls(self) -> list[dict[str, Any]]:
        self._fail()
        return [{**row, "model": row["model"] + self.text} for row in model_calls()]

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error
