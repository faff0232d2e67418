"""What the command palette offers: every key's action by its name, and what has no key."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from textual.app import SystemCommand
from textual.binding import Binding

from echo_tui.keys import APP_BINDINGS, ROOM_BINDINGS
from echo_tui.messages import ComposeTo, Control, Say
from echo_tui.themes import DARK, LIGHT

if TYPE_CHECKING:
    from echo_tui.app import EchoApp


def commands(app: EchoApp) -> Iterable[SystemCommand]:
    """What makes sense now."""
    for binding in (*APP_BINDINGS, *ROOM_BINDINGS):
        if isinstance(binding, Binding) and binding.show:
            owner = app if binding in APP_BINDINGS else app.room
            key = binding.key_display or binding.key.partition(",")[0]
            name = binding.description[:1].upper() + binding.description[1:]
            yield SystemCommand(name, f"key {key}", partial(app.run_action, binding.action, owner))
    decision = app.state.decision
    if decision is not None and decision.status == "pending":
        yield SystemCommand("Another discussion round", "back to phase 4", _say(app, "another_round", decision.id))
        yield SystemCommand("Escalate", "take the decision over yourself", _say(app, "escalate", decision.id))
    for role in dict.fromkeys(agent.role for agent in app.state.agents):
        title = app.state.title(role)
        add = partial(app.post_message, Control("add", role=role))
        yield SystemCommand(f"Add another {title}", "a further instance shares its work", add)
        yield SystemCommand(f"Write to {title}", "compose a message", partial(app.post_message, ComposeTo(role)))
    for agent in app.state.agents:
        if agent.local:
            restart = partial(app.post_message, Control("restart", role=agent.role, instance=agent.instance))
            yield SystemCommand(f"Restart {agent.title}", agent.state, restart)
    for role in sorted(set(app.state.titles) - {agent.role for agent in app.state.agents}):
        start = partial(app.post_message, Control("start", role=role))
        yield SystemCommand(f"Start {app.state.title(role)}", "not in the roster of this run", start)
    other = LIGHT if app.theme == DARK.name else DARK
    yield SystemCommand("Dark or light", "change the colours", partial(setattr, app, "theme", other.name))


def _say(app: EchoApp, name: str, decision_id: str):  # type: ignore[no-untyped-def]
    return partial(app.post_message, Say(name, decision_id))
