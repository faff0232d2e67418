"""Of a decision that is still open: what it waits for and for how long, and how the vote stands."""

from __future__ import annotations

from collections.abc import Sequence

from echo_core.workflow.board import Board, awaited_roles, vote_board
from echo_core.workflow.record import DecisionRecord, Phase
from echo_tui.columns import Part, duration
from echo_tui.glyphs import either, phase_glyph
from echo_tui.state import READY, RoomState
from echo_tui.widgets.page import Page

_MUTED = "$text-muted"
_ASKED = {
    Phase.STARTUP: "every agent to be up",
    Phase.BROADCAST: "the question to be received by",
    Phase.SELF_SELECTION: "the stance of",
    Phase.DISCUSSION: "a position from",
    Phase.CONSENSUS: "the vote of",
    Phase.SYNTHESIS: "the outcome, written by",
}


def now(page: Page, state: RoomState, record: DecisionRecord) -> None:
    page.blank()
    if record.status == "escalated":
        _escalated(page, record)
        return
    phase = record.phases[record.phase - 1]
    title = Phase(record.phase).title
    if record.paused:
        page.text(("nothing moves. Press p to resume.", ""), first=(f"{either('▲', '!')} Paused  ", "bold $warning"))
        return
    if phase.state == "waiting":
        since = _since_last(state, record)
        wait = f", for {since} now" if since else ""
        page.text((f"{record.phase} {title}", "bold"), first=(f"{either('▲', '!')} Next  ", "bold $warning"))
        page.text((f"It waits for you{wait}: press n to go on, or a to run on automatically.", ""), indent=2)
        return
    drawn, colour = phase_glyph(phase.state)
    number = int(phase.detail.get("round", 0))
    rounds = int(phase.detail.get("rounds", 0))
    which = f", round {number}" + (f" of {rounds}" if rounds else "") if number > 1 or rounds else ""
    head = f"{record.phase} {title}{which}"
    page.text((duration(phase.seconds), _MUTED), first=(f"{drawn} {head}  ", f"bold {colour}"))
    page.text((f"Waiting for {_whom(state, record)}.", ""), indent=2)


def _whom(state: RoomState, record: DecisionRecord) -> str:
    phase = Phase(record.phase)
    if phase == Phase.STARTUP:
        absent = [f"{agent.title} ({agent.state})" for agent in state.agents if agent.state not in READY]
        pending = state.snapshot.launch.pending if state.snapshot else ()
        absent += [state.title(role) for role in pending if role not in {agent.name for agent in state.agents}]
        return _list(absent) if absent else _ASKED[phase]
    roles = awaited_roles(record)
    return f"{_ASKED[phase]} {_list([state.title(role) for role in roles])}" if roles else "the conductor to go on"


def _list(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _since_last(state: RoomState, record: DecisionRecord) -> str:
    """How long ago the phase before ended."""
    ended = [phase.finished_at for phase in record.phases if phase.finished_at is not None]
    if not ended or state.snapshot is None:
        return ""
    return duration(max(0.0, state.snapshot.at - max(ended).timestamp()))


def _escalated(page: Page, record: DecisionRecord) -> None:
    phase = record.phases[Phase.SYNTHESIS - 1]
    why = str(phase.detail.get("reason") or "no consensus")
    score = "" if record.consensus_score is None else f" Score {record.consensus_score:.2f}, needed {record.threshold:.2f}."
    page.text((f"{either('▲', '!')} Waits for your word  ", "bold $warning"), (f"{why}.{score}", ""))
    page.text(("Press y to approve, w to reject, i for another round of discussion, c to cancel.", ""), indent=2)


def vote_lines(page: Page, state: RoomState, record: DecisionRecord) -> None:
    """The board: a bar of the score with a mark at the threshold, the quorum, who is still to vote."""
    board = vote_board(record)
    if board is None or (record.phase == Phase.SYNTHESIS and record.status not in ("pending", "escalated")):
        return
    page.heading("The vote", (f"  round {board.round}" if board.round > 1 else "", _MUTED))
    page.grid([7, 0], [[("score", _MUTED)], _score(board, record, page.width - 9)])
    cells = max(12, min(60, page.width - 10))
    page.grid([7, 0], [[("", "")], _bar(board, cells)])
    reached = either("✔", "yes") if board.cast >= board.quorum else "not yet"
    quorum = f"{board.cast} of {len(record.participants)} for or against; {board.quorum} are needed"
    tone = "$success" if board.cast >= board.quorum else _MUTED
    page.grid([7, 0], [[("quorum", _MUTED)], [(f"{quorum} ", ""), (reached, tone)]])
    if board.awaited and record.phase == Phase.CONSENSUS and record.status == "pending":
        page.grid([7, 0], [[("to come", _MUTED)], [(_list([state.title(role) for role in board.awaited]), "")]])


def _score(board: Board, record: DecisionRecord, width: int) -> list[Part]:
    if board.score is None:
        why = "the leader's own vote decides" if record.mode == "hierarchical" else "nobody voted for or against yet"
        return [(why, _MUTED)]
    enough = board.score >= board.threshold
    against = f", {1 - board.threshold:.2f} or less rejects" if width >= 50 else ""
    told = f"  {board.threshold:.2f} or more approves{against}"
    return [(f"{board.score:.2f}", "bold $success" if enough else "bold"), (told, _MUTED)]


def _bar(board: Board, cells: int) -> list[Part]:
    filled = round((board.score or 0.0) * cells)
    mark = min(cells - 1, round(board.threshold * cells))
    colour = "$success" if board.score is not None and board.score >= board.threshold else "$accent"
    parts: list[Part] = []
    for begin, end in ((0, mark), (mark + 1, cells)):
        full = max(0, min(filled, end) - begin)
        parts += [(either("━", "=") * full, colour), (either("─", "-") * (end - begin - full), _MUTED)]
        if begin == 0:
            parts.append((either("┃", "|"), "bold"))
    return [part for part in parts if part[0]]
