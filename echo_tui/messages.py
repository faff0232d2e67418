"""What widgets and screens ask of the app. Messages go up; state comes down."""

from __future__ import annotations

from typing import Any

from textual.message import Message


class Tell(Message):
    """Put one line on the event line. `urgent` for what needs the operator."""

    def __init__(self, text: str, *, urgent: bool = False) -> None:
        super().__init__()
        self.text, self.urgent = text, urgent


class Say(Message):
    """What the operator says about a decision: a name of `echo_core.workflow.commands.COMMANDS` and its content."""

    def __init__(self, name: str, decision_id: str, **content: Any) -> None:
        super().__init__()
        self.name, self.decision_id, self.content = name, decision_id, content


class Control(Message):
    """An operation on an agent at the supervisor: start, stop, restart (role, instance) or add (role)."""

    def __init__(self, op: str, **arguments: Any) -> None:
        super().__init__()
        self.op, self.arguments = op, arguments


class ComposeTo(Message):
    """Open the composer, with a recipient when one is meant."""

    def __init__(self, to_role: str = "all") -> None:
        super().__init__()
        self.to_role = to_role
