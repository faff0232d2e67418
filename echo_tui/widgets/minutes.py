"""A decision as the minutes of a good meeting, growing while it runs."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from textual.content import Content
from textual.geometry import Size
from textual.widget import Widget

from echo_core.workflow.board import stances_of, weight_of
from echo_core.workflow.record import DecisionRecord, Phase
from echo_tui.columns import Part, duration
from echo_tui.glyphs import either, phase_glyph
from echo_tui.state import RoomState
from echo_tui.widgets.minutes_now import now, vote_lines
from echo_tui.widgets.page import Page

READABLE = 112  # cells: longer lines lose the eye
_TABLE_ROOM = 66  # cells from which a vote's figures have room
_REASON_ROOM = 90  # and from which its reason has room beside them
_VOTE_COLUMNS = {
    "vote": ("vote", 9, 0),
    "who": ("who", 17, 0),
    "round": ("round", 5, _TABLE_ROOM),
    "confidence": ("confidence", 10, 0),
    "weight": ("weight", 6, _TABLE_ROOM),
    "by": ("by", 8, _TABLE_ROOM),
    "why": ("why", 0, _REASON_ROOM),
}  # name, cells, least width of the page
MUTED = "$text-muted"
BY = {"llm": "a model", "keywords": "keywords", "rules": "rules", "operator": "the operator"}
_SOURCE = {"llm": "model"}
STATUS = {
    "approved": ("✔", "+", "$success"),
    "rejected": ("✕", "x", "$error"),
    "escalated": ("▲", "!", "$warning"),
    "cancelled": ("■", "#", MUTED),
    "pending": ("▶", ">", "$accent"),
}
VOTES = {"approve": ("✔", "+", "$success"), "reject": ("✕", "x", "$error"), "abstain": ("·", ".", MUTED)}
_POSITIONS = {"for": ("✔", "+", "$success"), "against": ("✕", "x", "$error"), "conditional": ("◐", "~", MUTED)}
_STANCES = {"lead": "bold", "assist": "", "observe": MUTED, "none": MUTED}


def shape(kinds: dict[str, tuple[str, str, str]], kind: str) -> tuple[str, str]:
    drawn, plain, colour = kinds.get(kind, ("·", ".", MUTED))
    return either(drawn, plain), colour


class Minutes(Widget):
    """As high as its text. `state` is told; nothing is asked."""

    DEFAULT_CSS = "Minutes { height: auto; width: 1fr; }"

    def __init__(self, state: RoomState, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._state = state
        self._drawn: tuple[int, list[Content]] | None = None

    def show(self, state: RoomState) -> None:
        told, self._state = _basis(self._state), state
        if _basis(state) != told:
            self._drawn = None
            self.refresh(layout=True)

    def render(self) -> Content:
        return Content("\n").join(self._lines(self.content_size.width))

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(self._lines(width))

    def _lines(self, width: int) -> list[Content]:
        if self._drawn is None or self._drawn[0] != width:
            self._drawn = (width, minutes_lines(self._state, min(width, READABLE)))
        return self._drawn[1]


def _basis(state: RoomState) -> tuple[object, ...]:
    """What the lines depend on: a state comes with every heartbeat, and an ended decision changes no more."""
    snapshot, decision = state.snapshot, state.decision
    if decision is not None and decision.status not in ("pending", "escalated"):
        return decision, state.titles
    agents = [(agent.name, agent.state) for agent in state.agents]
    return decision, state.titles, int(snapshot.at) if snapshot else state.waited_seconds, agents


def minutes_lines(state: RoomState, width: int) -> list[Content]:
    """The whole, in the order in which one reads it."""
    page = Page(width)
    record = state.decision
    if record is None:
        _nothing_yet(page, state)
        return page.lines
    _question(page, record)
    if record.status in ("pending", "escalated"):
        now(page, state, record)
    _outcome(page, state, record)
    vote_lines(page, state, record)
    _positions(page, state, record)
    _votes(page, state, record)
    _stances(page, state, record)
    _made(page, record)
    return page.lines


def _nothing_yet(page: Page, state: RoomState) -> None:
    page.blank()
    if state.snapshot is None:
        page.text((f"Waiting for the supervisor: {duration(state.waited_seconds)} so far.", MUTED))
        return
    page.text(("No decision yet.", "bold"))
    page.blank()
    page.text(("Go back with escape and press b to ask the organisation something: a request sent to all opens one.", MUTED))


def _question(page: Page, record: DecisionRecord) -> None:
    page.text((record.subject, "bold"), first=(f"#{record.number}  ", MUTED))
    page.text(
        (f"{record.mode} {either('·', '-')} asked {local(record.inserted_at)}", MUTED), indent=len(f"#{record.number}  ")
    )
    if record.body.strip():
        page.blank()
        bar = either("│ ", "| ")
        for line in record.body.strip().splitlines():
            before = len(page.lines)
            page.text((line, ""), indent=2)
            page.lines[before:] = [Content.assemble((bar, MUTED), each[2:]) for each in page.lines[before:]]


def _outcome(page: Page, state: RoomState, record: DecisionRecord) -> None:
    outcome = record.outcome or {}
    if record.status not in ("pending", "escalated"):
        page.blank()
        drawn, colour = shape(STATUS, record.status)
        page.text((f"{drawn} {record.status.capitalize()}  ", f"bold {colour}"), (_verdict(record), MUTED))
    if outcome.get("summary"):
        page.blank()
        page.text((str(outcome["summary"]), ""))
    if outcome.get("rationale"):
        page.heading("Why")
        page.text((str(outcome["rationale"]), ""))
    if outcome.get("actions"):
        page.heading("Actions")
        for action in outcome["actions"]:
            owner = state.title(str(action.get("owner", "")))
            due = str(action.get("due", ""))
            if page.width >= 70:
                what = (str(action.get("what", "")), "")
                bullet = (either("•", "-"), MUTED)
                page.grid([1, 0, 18, 16], [[bullet], [what], [(owner, "bold")], [(due or "no date", MUTED)]])
            else:
                page.text((str(action.get("what", "")), ""), first=(f"{either('•', '-')} ", MUTED))
                page.text((owner, "bold"), (f", {due}" if due else ", no date", MUTED), indent=2)
    if outcome.get("dissent"):
        page.heading("Dissent")
        for dissent in outcome["dissent"]:
            page.text((state.title(str(dissent.get("role", ""))), "bold"))
            begin, end = either("“", '"'), either("”", '"')
            page.text((f"{begin}{dissent.get('text', '')}{end}", ""), indent=2)


def _verdict(record: DecisionRecord) -> str:
    outcome = record.outcome or {}
    if record.status == "cancelled":
        return "by the operator; nothing was decided."
    score = (
        "" if record.consensus_score is None else f"score {record.consensus_score:.2f}; {record.threshold:.2f} was needed"
    )
    if outcome.get("decided_by") == "operator":
        reason = outcome.get("operator_reason")
        return "by the operator" + (f": {reason}" if reason else "") + (f" ({score})." if score else ".")
    return f"with {score}." if score else "without a vote."


def _positions(page: Page, state: RoomState, record: DecisionRecord) -> None:
    for number in sorted({item.round for item in record.contributions}):
        page.heading(f"Positions, round {number}")
        for item in record.contributions:
            if item.round == number:
                drawn, colour = shape(_POSITIONS, item.position)
                by = f"  by {BY.get(item.source, 'an unknown source')}" if item.source != "operator" else ""
                who = (state.title(item.role), "bold" if item.source != "operator" else "bold $accent")
                said: list[Part] = [(item.text.strip(), ""), (by, MUTED)]
                _who_says(page, (drawn, colour), who, said)


def _who_says(page: Page, mark: Part, who: Part, said: list[Part]) -> None:
    if page.width >= 60:
        page.grid([1, 17, 0], [[mark], [who], said])
    else:
        page.grid([1, 0], [[mark], [who]])
        page.text(*said, indent=3)


def _votes(page: Page, state: RoomState, record: DecisionRecord) -> None:
    if not record.votes:
        return
    page.heading("Votes")
    stances = stances_of(record)
    columns = [_VOTE_COLUMNS[name] for name in ("vote", "who", "round", "confidence", "weight", "by", "why")]
    columns = [column for column in columns if page.width >= column[2]]
    widths = [width if name != "who" or page.width >= _TABLE_ROOM else 0 for name, width, _ in columns]
    right = [index for index, (name, _, _) in enumerate(columns) if name in ("round", "confidence", "weight")]
    page.grid(widths, [[(name, MUTED)] for name, _, _ in columns], right=right)
    for vote in record.votes:
        drawn, colour = shape(VOTES, vote.vote)
        weight = weight_of(vote, stances)
        cells: dict[str, list[Part]] = {
            "vote": [(f"{drawn} {vote.vote}", colour)],
            "who": [(state.title(vote.role), "bold")],
            "round": [(str(vote.round), MUTED)],
            "confidence": [(f"{vote.confidence:.2f}", "")],
            "weight": [("" if weight is None else f"{weight:.2f}", "")],
            "by": [(_SOURCE.get(vote.source, vote.source), MUTED)],
            "why": [(vote.rationale, "")],
        }
        page.grid(widths, [cells[name] for name, _, _ in columns], right=right)
        if page.width < _REASON_ROOM and vote.rationale:
            page.text((vote.rationale, MUTED), indent=11 if page.width >= _TABLE_ROOM else 2)


def _stances(page: Page, state: RoomState, record: DecisionRecord) -> None:
    if not record.participations:
        return
    page.heading("Who took part" if record.phase > Phase.SELF_SELECTION else "Who takes part")
    counted = stances_of(record)
    for stance, style in _STANCES.items():
        for item in record.participations:
            if item.stance == stance:
                made = counted.get(item.role, stance)
                word = stance if made == stance else f"{made}, by rule"
                by = f"  by {BY.get(item.source, 'an unknown source')}" + (f" ({item.model})" if item.model else "")
                said: list[Part] = [(item.reasoning, MUTED), (by, MUTED)]
                confidence = f"{item.confidence:.2f}"
                if page.width >= 60:
                    cells = [[(word, style)], [(state.title(item.role), style)], [(confidence, MUTED)], said]
                    page.grid([8, 17, 4, 0], cells)
                else:
                    page.grid([8, 0, 4], [[(word, style)], [(state.title(item.role), style)], [(confidence, MUTED)]])


def _made(page: Page, record: DecisionRecord) -> None:
    page.heading("How it was made")
    for note in record.degraded:
        page.text((note, "$warning"), first=(f"{either('▲', '!')} ", "$warning"))
    if counted := _sources(record):
        page.text((counted, ""))
    for phase in record.phases:
        drawn, colour = phase_glyph(phase.state)
        style = MUTED if phase.state == "pending" else ""
        title: list[Part] = [(f"{phase.phase} {Phase(phase.phase).title}", style)]
        took: list[Part] = [(duration(phase.seconds), MUTED)]
        word = "" if phase.state in ("completed", "pending") else {"failed": "ended short"}.get(phase.state, phase.state)
        reason = str(phase.detail.get("reason") or "")
        told = [(": ".join(part for part in (word, reason) if part), MUTED if phase.state != "failed" else "$warning")]
        page.grid([1, 17, 6, 0], [[(drawn, colour)], title, took, told], right=(2,))
    page.text((f"mode {record.mode}, opened {local(record.inserted_at)}{_ended(record)}", MUTED))


def _sources(record: DecisionRecord) -> str:
    counts = Counter(item.source for item in record.participations)
    counts.update(item.source for item in record.contributions)
    counts.update(vote.source for vote in record.votes)
    if record.outcome and record.outcome.get("source"):
        counts[str(record.outcome["source"])] += 1
    if not counts:
        return ""
    told = ", ".join(f"{number} from {BY.get(source, 'an unknown source')}" for source, number in counts.most_common())
    return f"Stances, positions, votes and outcome: {told}."


def _ended(record: DecisionRecord) -> str:
    return "" if record.completed_at is None else f", {record.status} {local(record.completed_at)}"


def local(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"
