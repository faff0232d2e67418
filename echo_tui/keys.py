"""The keys of the control room: what the app binds, what the help explains, and which ones matter now."""

from __future__ import annotations

from textual.binding import Binding, BindingType

from echo_tui.state import RoomState

APP_BINDINGS: list[BindingType] = [
    Binding("b", "compose", "compose a broadcast", id="compose"),
    Binding("n", "next_phase", "next phase", id="next-phase"),
    Binding("a", "toggle_pace", "run on automatically, or step by step", id="automatic"),
    Binding("p", "pause", "pause, resume", id="pause"),
    Binding("d", "over('decision')", "decision room", id="decision"),
    Binding("h", "over('health')", "health", id="health"),
    Binding("l", "over('messages')", "messages", id="messages"),
    Binding("o", "over('models')", "models", id="models"),
    Binding("question_mark", "help", "help", id="help", key_display="?"),
    Binding("q,ctrl+q", "leave", "quit: stop everything, leave it running, or stay", id="quit", key_display="q"),
]

ROOM_BINDINGS: list[BindingType] = [
    # Before the field that has the focus: what is typed right behind them then goes to the next field.
    Binding("tab", "pane(1)", "next pane", id="next-pane", priority=True),
    Binding("shift+tab", "pane(-1)", "pane before", id="previous-pane", priority=True),
    Binding("z", "zoom", "zoom the pane", id="zoom"),
    Binding("m", "merged", "all logs merged in one", id="merged"),
    Binding("slash", "search", "search the logs", id="search", key_display="/"),
    Binding("f", "follow", "follow the tail", id="follow"),
    Binding("r", "restart", "restart the agent", id="restart"),
    Binding("x", "stop_start", "stop or start the agent", id="stop-start"),
    Binding("escape", "back", "back", id="back-to-panes", show=False),
    *(
        Binding(str(number), f"choose({number})", f"pane {number}", id=f"pane-{number}", show=False)
        for number in range(1, 10)
    ),
]


def way_out(*, composing: bool, searching: bool) -> tuple[str, str]:
    """The key that is always shown."""
    return ("esc", "keep the draft, go back") if composing else ("esc", "end the search") if searching else ("q", "quit")


def keys_now(state: RoomState, *, composing: bool, searching: bool) -> list[tuple[str, str]]:
    """The keys that matter now, the most useful first."""
    if composing:
        return [("ctrl+s", "send"), ("tab", "next field")]
    if searching:
        return [("enter", "next match"), ("up", "match before")]
    decision = state.decision
    keys = [("b", "broadcast")]
    if decision is not None and decision.status == "pending":
        following = {"waiting": "next phase", "pending": "next phase"}.get(
            decision.phases[decision.phase - 1].state, "go on"
        )
        keys = [("n", following), ("a", "automatic" if decision.pace == "step" else "step by step")]
        keys += [("p", "resume" if decision.paused else "pause"), ("d", "decision"), ("b", "broadcast")]
    elif decision is not None:
        keys = [("d", "decide" if decision.status == "escalated" else "decision"), ("b", "broadcast")]
    else:
        keys.append(("a", "automatic" if state.next_pace == "step" else "step by step"))
    if any(agent.state in ("crashed", "gave up", "down", "stopped", "stalled") for agent in state.agents):
        keys += [("r", "restart"), ("h", "health")]
    return [*keys, ("/", "search"), ("z", "zoom"), ("m", "merged"), ("l", "messages"), ("?", "help")]
