"""The six phases with state and time, and below them what the present one is about."""

from __future__ import annotations

from collections.abc import Iterable

from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from echo_core.workflow.record import Phase, PhaseRecord
from echo_tui.columns import Part, duration, row
from echo_tui.glyphs import phase_glyph
from echo_tui.state import RoomState
from echo_tui.widgets.phase_detail import phase_detail

_NEVER = tuple(PhaseRecord(int(phase), "pending") for phase in Phase)


class PhaseColumn(Widget):
    """The left column. Without a decision it shows the launch."""

    DEFAULT_CSS = "PhaseColumn { width: 24; padding: 0 1; }"

    state: reactive[RoomState] = reactive(RoomState(), layout=False)

    def render(self) -> Content:
        width = self.size.width
        decision = self.state.decision
        lines = [Content.styled("Phases", "$text-muted"), Content("")]
        lines += [_stage(phase, width, self.state) for phase in (decision.phases if decision else _NEVER)]
        lines.append(Content(""))
        lines += phase_detail(self.state, width)
        return Content("\n").join(lines[: max(1, self.size.height)])


class PhaseRow(Widget):
    """The same in one line, for a narrow terminal: `✔ ✔ ▶3 · · ·  self-selection 4s`."""

    DEFAULT_CSS = "PhaseRow { height: 1; }"

    state: reactive[RoomState] = reactive(RoomState(), layout=False)

    def render(self) -> Content:
        decision = self.state.decision
        parts: list[Part] = []
        present: PhaseRecord | None = None
        for phase in decision.phases if decision else _NEVER:
            going = decision is not None and decision.status in ("pending", "escalated")
            here = going and decision is not None and phase.phase == decision.phase and phase.state != "completed"
            shape, colour = phase_glyph(_state(phase))
            parts.append((f"{shape}{phase.phase if here else ''} ", colour))
            present = phase if here else present
        right: list[Part] = []
        if present is not None:
            name = Phase(present.phase).title
            parts.append((f" {name}", "bold"))
            parts.append((f" {_progress(present, self.state)}", "$text-muted"))
            right = [(duration(present.seconds), "$text-muted")]
        elif decision is not None:
            parts.append((f" {decision.status}", "bold"))
            if decision.consensus_score is not None:
                parts.append((f" score {decision.consensus_score:.2f}", "$text-muted"))
        else:
            parts.append((" No decision yet: press b to ask", "$text-muted"))
        return Content.assemble(" ", row(parts, right, self.size.width - 2), " ")


def _stage(phase: PhaseRecord, width: int, state: RoomState) -> Content:
    shape, colour = phase_glyph(_state(phase))
    here = phase.state in ("running", "waiting")
    name = Phase(phase.phase).title
    style = "bold" if here else "" if _state(phase) in ("completed", "failed") else "$text-muted"
    told = duration(phase.seconds) if _state(phase) in ("completed", "failed", "running") else ""
    progress = _progress(phase, state) if here else ""
    left: list[Part] = [(f"{shape} ", colour), (f"{phase.phase} ", "$text-muted"), (name, style)]
    return row(left, [(f" {progress or told}".rstrip(), "$text-muted" if not here else "$accent")], width)


def _state(phase: PhaseRecord) -> str:
    """A phase that never began has not failed, whatever ended the decision."""
    return "pending" if phase.state == "failed" and phase.started_at is None else phase.state


def _progress(phase: PhaseRecord, state: RoomState) -> str:
    """`4/6`: answers of those that are asked; `press n` when it waits for that."""
    decision = state.decision
    if decision is None:
        return ""
    if phase.state == "waiting":
        return "press d" if phase.detail.get("waiting_for") == "approval" else "press n"
    if phase.state != "running":
        return ""
    asked = list(phase.detail.get("asked", ()))
    match phase.phase:
        case Phase.STARTUP:
            return f"{sum(agent.state in ('healthy', 'busy') for agent in state.agents)}/{len(state.agents)}"
        case Phase.BROADCAST:
            return f"{sum(r.state == 'handled' for r in decision.receipts)}/{len(decision.receipts)}"
        case Phase.SELF_SELECTION:
            return _of(len({p.role for p in decision.participations} & set(asked)), asked)
        case Phase.DISCUSSION:
            number = int(phase.detail.get("round", 1))
            return _of(len({c.role for c in decision.contributions if c.round == number} & set(asked)), asked)
        case Phase.CONSENSUS:
            number = int(phase.detail.get("round", 1))
            return _of(len({v.role for v in decision.votes if v.round == number} & set(asked)), asked)
        case _:
            return duration(phase.seconds)


def _of(answered: int, asked: Iterable[str]) -> str:
    return f"{answered}/{len(list(asked))}"
