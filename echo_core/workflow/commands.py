"""What the operator may say about a decision: durable messages to the conductor, applied once."""

from __future__ import annotations

from typing import Any

from echo_core.bus.message import Message
from echo_core.errors import UsageError

COMMANDS = {
    "advance": "go on to the next phase",
    "auto": "run on automatically",
    "step": "step by step",
    "pause": "pause",
    "resume": "resume",
    "speak": "speak in the discussion",
    "another_round": "another discussion round",
    "overrule": "overrule",
    "approve": "approve",
    "reject": "reject",
    "escalate": "escalate",
    "cancel": "cancel",
}


def command(name: str, decision_id: str, **content: Any) -> Message:
    """The message to send. `speak` takes text, `overrule` takes status (approved or rejected) and reason."""
    if name not in COMMANDS:
        raise UsageError(f"unknown command {name!r}; known are {', '.join(COMMANDS)}")
    if name == "speak":
        text = str(content.get("text", "")).strip()
        if not text:
            raise UsageError("there is nothing to say: the text is empty")
        content = {**content, "answer": "contribution", "role": "operator", "text": text, "source": "operator", "body": text}
    if name == "overrule" and content.get("status") not in ("approved", "rejected"):
        raise UsageError("overrule needs a status: approved or rejected")
    return Message.compose("operator", "conductor", "request", name, content=content, decision_id=decision_id)
