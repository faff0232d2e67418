"""What the senders will say, drawn from the seed: every message has a uid of its own before the run begins."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid5

from echo_core.bus.message import Message
from echo_core.workflow.commands import command

_SPACE = UUID("7d3d0c4e-9b7a-4b57-9a53-1f6f2f3c9a11")
QUESTIONS = (
    ("Migrate the reporting database to PostgreSQL 18?", "Two weeks, $40,000, with a rehearsed rollback."),
    ("Deploy on Friday without a rollback?", "Without tests, to keep the deadline."),
    ("Raise the subscription price by ten percent?", "For new customers first; churn is watched."),
    ("Move to a four-day week?", "A trial over one quarter for every team."),
    ("Rewrite the billing service in Rust?", "Six months for two engineers, $300,000."),
    ("Open the warehouse on weekends?", "Overtime for the staff, and a second supplier."),
)
MODES = ("collaborative", "collaborative", "autonomous", "hierarchical", "human")


@dataclass(frozen=True, slots=True)
class Planned:
    """`at` from 0 to 1: its place in the run. `token` is in the subject or the content, and nowhere else."""

    sender: int
    at: float
    token: str
    message: Message

    def to_json(self) -> dict[str, object]:
        return {"at": self.at, "token": self.token, "message": self.message.to_json()}


def plan(seed: int, messages: int, decisions: int, senders: int, roles: Sequence[str]) -> list[Planned]:
    """In the order in which each sender says them. Commands follow their decision, by the same sender."""
    draw = random.Random(f"messages {seed}")
    planned: list[Planned] = []
    for number in range(decisions):
        planned += _decision(draw, seed, number, senders)
    for number in range(messages - len(planned)):
        token = f"chaos-{seed}-m{number}"
        planned.append(Planned(draw.randrange(senders), draw.random(), token, _message(draw, token, roles)))
    return sorted(planned, key=lambda one: one.at)


def uid(token: str) -> str:
    return str(uuid5(_SPACE, token))


def decision_id(seed: int, number: int) -> str:
    return uid(f"decision-{seed}-{number}")


def write(planned: Sequence[Planned], sender: int, path: Path) -> None:
    lines = [json.dumps(one.to_json()) for one in planned if one.sender == sender]
    path.write_text("\n".join(lines) + "\n" if lines else "")


def _message(draw: random.Random, token: str, roles: Sequence[str]) -> Message:
    subject, body = draw.choice(QUESTIONS)
    content = {"token": token, "body": f"{body} ({token})"}
    kind = draw.choices(("ask", "tell", "leadership", "all", "escalate"), (30, 30, 14, 20, 6))[0]
    to, sender, type = {
        "ask": (draw.choice(roles), "operator", "request"),
        "tell": (draw.choice(roles), "operator", "notification"),
        "leadership": ("leadership", "operator", draw.choice(("request", "notification"))),
        "all": ("all", "operator", "notification"),
        "escalate": ("cto", "senior_architect", "escalation"),
    }[kind]
    return Message.compose(sender, to, type, subject, content=content, uid=uid(token))


def _decision(draw: random.Random, seed: int, number: int, senders: int) -> list[Planned]:
    """A question to all, and for every second one a few words of the operator a little later."""
    subject, body = QUESTIONS[number % len(QUESTIONS)]
    sender, at = draw.randrange(senders), draw.uniform(0.0, 0.85)
    identity = decision_id(seed, number)
    token = f"chaos-{seed}-d{number}"
    content = {"token": token, "body": body, "mode": draw.choice(MODES), "pace": "auto"}
    question = Message.compose("operator", "all", "request", subject, content=content, uid=uid(token), decision_id=identity)
    planned = [Planned(sender, at, token, question)]
    words = [
        [],
        ["speak"],
        [],
        ["pause", "resume"],
        [],
        ["another_round"],
        [],
        ["speak", "approve"],
        [],
        ["overrule"],
        [],
        ["cancel"],
    ]
    for position, name in enumerate(words[number % len(words)]):
        token = f"chaos-{seed}-d{number}c{position}"
        more: dict[str, str] = {"token": token}
        if name == "speak":
            more["text"] = "Think of the customers as well."
        if name == "overrule":
            more |= {"status": "approved", "reason": "it was promised"}
        said = command(name, identity, **more)
        said = Message.from_json({**said.to_json(), "uid": uid(token)})
        planned.append(Planned(sender, min(1.0, at + 0.1 * (position + 1) / 30), token, said))
    return planned
