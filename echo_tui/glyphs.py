"""State is a shape first and a colour second. ASCII twins where the terminal can't draw the shapes."""

from __future__ import annotations

import locale
import os
from functools import cache

from echo_core.health.states import AgentState

_AGENTS = {
    AgentState.STARTING: ("◌", ".", "$text-muted"),
    AgentState.HEALTHY: ("●", "o", "$success"),
    AgentState.BUSY: ("◐", "*", "$accent"),
    AgentState.STALLED: ("▲", "!", "$warning"),
    AgentState.LATE: ("○", "?", "$warning"),
    AgentState.DOWN: ("✕", "x", "$error"),
    AgentState.CRASHED: ("✕", "x", "$error"),
    AgentState.GAVE_UP: ("▲", "!", "$error"),
    AgentState.STOPPED: ("■", "#", "$text-muted"),
}
_LIGHTS = {"up": ("●", "o", "$success"), "starting": ("◌", ".", "$text-muted"), "down": ("✕", "x", "$error"),
           "off": ("▲", "-", "$text-muted")}  # fmt: skip
_PHASES = {
    "pending": ("·", ".", "$text-muted"),
    "running": ("▶", ">", "$accent"),
    "waiting": ("▲", "!", "$warning"),
    "completed": ("✔", "+", "$success"),
    "failed": ("✕", "x", "$error"),
}


@cache
def ascii_only() -> bool:
    """Whether shapes must be ASCII: no UTF-8, or a bare Linux console. `ECHO_ASCII=1` asks for it."""
    if os.environ.get("ECHO_ASCII"):
        return True
    encoding = locale.getpreferredencoding(False).lower().replace("-", "")
    return encoding != "utf8" or os.environ.get("TERM") == "linux"


def agent_glyph(state: str) -> tuple[str, str]:
    """The shape and its colour (a theme variable)."""
    return _choose(_AGENTS.get(AgentState(state), _AGENTS[AgentState.STARTING]))


def light_glyph(state: str) -> tuple[str, str]:
    return _choose(_LIGHTS.get(state, _LIGHTS["starting"]))


def phase_glyph(state: str) -> tuple[str, str]:
    return _choose(_PHASES.get(state, _PHASES["pending"]))


def either(drawn: str, plain: str) -> str:
    """Any other shape with its ASCII twin."""
    return plain if ascii_only() else drawn


def _choose(entry: tuple[str, str, str]) -> tuple[str, str]:
    drawn, plain, colour = entry
    return (plain if ascii_only() else drawn), colour
