"""What an agent does with a message: ask its mind, and say what follows as effects to be stored."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from pydantic import ValidationError

from echo_core.bus.message import SUBJECT_CHARACTERS, Message
from echo_core.bus.receive import Effects
from echo_core.logs import Log
from echo_core.minds.protocol import Answer, Contribution, Mind, Question, Tally, Vote
from echo_core.organisation import Role
from echo_core.storage.database import Database

IDLE = "idle"
_TEXT_CHARACTERS = 12_000  # of one text of a mind; four times this in bytes still fits into a message
_QUOTED_CHARACTERS = 160  # of a text in a log line

Statement = tuple[str, dict[str, Any]]


class Handler:
    """`mind()` gives the role's mind, once it is chosen. `on_activity` is told what a person would say the agent does.

    `calls()` takes the statements that record what the mind asked of a model since it was asked last.
    """

    def __init__(
        self,
        role: Role,
        mind: Callable[[], Awaitable[Mind]],
        database: Database,
        log: Log,
        *,
        on_activity: Callable[[str], None] = lambda activity: None,
        calls: Callable[[Message], list[Statement]] = lambda message: [],
    ) -> None:
        self.role = role
        self._mind = mind
        self._database = database
        self._log = log
        self._on_activity = on_activity
        self._calls = calls
        self._asks = {
            "judge": self._judge,
            "contribute": self._contribute,
            "vote": self._vote,
            "synthesise": self._synthesise,
        }

    async def handle(self, message: Message) -> Effects:
        self._log.info("recv", f"#{message.id} {message.type} from {message.from_role}: {message.subject}")
        try:
            if message.type == "escalation" and message.to_role == self.role.role:
                return self._forward(message)
            if message.type != "request" or message.to_role == "all":
                self._log.info("noted", f"#{message.id}")
                return Effects()
            ask = message.content.get("ask") if message.from_role == "conductor" else None
            effects = await self._asks.get(str(ask), self._reply)(message)
            return Effects(effects.messages, (*effects.statements, *self._calls(message)))
        finally:
            self._on_activity(IDLE)

    async def _judge(self, message: Message) -> Effects:
        self._on_activity(f"judging #{message.id}")
        started = time.perf_counter()
        answer = await (await self._mind()).judge(_question(message))
        latency_ms = (time.perf_counter() - started) * 1000
        fields = _cleaned(answer.model_dump(mode="json"))
        self._log.info("judge", f"{answer.stance} {answer.confidence:.2f} {_said(answer, answer.reasoning)}")
        statement = ("record_participation", {**fields, **self._place(message), "latency_ms": latency_ms})
        content = {"answer": "judgement", **fields, "latency_ms": latency_ms, "body": fields["reasoning"]}
        return Effects((self._response(message, content),), (statement,))

    async def _contribute(self, message: Message) -> Effects:
        number = _round(message)
        self._on_activity(f"speaking on #{message.id}, round {number}")
        heard = await self._heard(message, before_round=number)
        answer = await (await self._mind()).contribute(_question(message), number, heard)
        self._log.info("speak", f"round {number} {answer.position} {_said(answer, answer.text)}")
        fields = _cleaned(answer.model_dump(mode="json"))
        content = {"answer": "contribution", **fields, "role": self.role.role, "round": number, "body": fields["text"]}
        return Effects((self._response(message, content),))

    async def _vote(self, message: Message) -> Effects:
        number = _round(message)
        self._on_activity(f"voting on #{message.id}")
        answer = await (await self._mind()).vote(_question(message), await self._heard(message))
        self._log.info("vote", f"{answer.vote} {answer.confidence:.2f} {_said(answer, answer.rationale)}")
        fields = _cleaned(answer.model_dump(mode="json"))
        statement = ("record_vote", {**fields, **self._place(message), "round": number})
        content = {"answer": "vote", **fields, "role": self.role.role, "round": number, "body": fields["rationale"]}
        return Effects((self._response(message, content),), (statement,))

    async def _synthesise(self, message: Message) -> Effects:
        self._on_activity(f"writing the outcome of #{message.id}")
        tally = Tally.model_validate(message.content.get("tally"))
        rows = await self._database.fetch_all("votes_of_decision", {"decision_id": message.decision_id})
        votes = [Vote.model_validate({**row, "role": row["voter_role"]}) for row in rows]
        heard = await self._heard(message)
        answer = await (await self._mind()).synthesise(_question(message), heard, votes, tally)
        self._log.info("synth", f"{tally.verdict} {_said(answer, answer.summary)}")
        fields = _cleaned(answer.model_dump(mode="json"))
        return Effects((self._response(message, {"answer": "outcome", **fields, "body": fields["summary"]}),))

    async def _reply(self, message: Message) -> Effects:
        """A request outside the phases gets one position as its answer."""
        self._on_activity(f"answering #{message.id}")
        question = Question(subject=message.subject, body=message.body, decision_id=message.decision_id)
        answer = await (await self._mind()).contribute(question, 1, [])
        self._log.info("reply", f"{_said(answer, answer.text)}")
        fields = _cleaned(answer.model_dump(mode="json"))
        return Effects((self._response(message, {**fields, "role": self.role.role, "body": fields["text"]}),))

    def _forward(self, message: Message) -> Effects:
        """An escalation goes up the line, to the operator in the end."""
        superior = self.role.reports_to or "operator"
        self._log.info("forward", f"#{message.id} to {superior}")
        path = message.metadata.get("path")
        onward = Message.compose(
            self.role.role,
            superior,
            "escalation",
            message.subject,
            content=message.content,
            metadata={"path": [*(path if isinstance(path, list) else [message.from_role]), self.role.role]},
            decision_id=message.decision_id,
            in_reply_to=message.id,
        )
        return Effects((onward,))

    async def _heard(self, message: Message, before_round: int | None = None) -> Sequence[Contribution]:
        """What was said in the discussion: in earlier rounds, or in all; the operator is heard at once."""
        rows = await self._database.fetch_all("contributions_of_decision", {"decision_id": message.decision_id})
        heard = []
        for row in rows:
            try:
                said = Contribution.model_validate({**row["content"], "role": row["from_role"]})
            except (ValidationError, TypeError):
                self._log.warn("ignored", f"a contribution of {row['from_role']} has an unknown shape")
                continue
            if before_round is None or said.round < before_round or said.role == "operator":
                heard.append(said)
        return heard

    def _response(self, message: Message, content: dict[str, Any]) -> Message:
        subject = message.subject if message.subject.startswith("Re: ") else f"Re: {message.subject}"
        return Message.compose(
            self.role.role,
            message.from_role,
            "response",
            subject[:SUBJECT_CHARACTERS],
            content=content,
            decision_id=message.decision_id,
            in_reply_to=message.id,
        )

    def _place(self, message: Message) -> dict[str, Any]:
        return {"decision_id": message.decision_id, "role": self.role.role}


def _question(message: Message) -> Question:
    return Question.model_validate({**message.content["question"], "decision_id": message.decision_id})


def _round(message: Message) -> int:
    return int(message.content.get("round", 1))


def _said(answer: Answer, text: str) -> str:
    """`llm: what was said`, and why the model was not heard, if it was not."""
    line = " ".join(text.split())
    if len(line) > _QUOTED_CHARACTERS:
        line = line[: _QUOTED_CHARACTERS - 1] + "…"
    return f"{answer.source}: {line}" + (f" (no model: {answer.fallback_reason})" if answer.fallback_reason else "")


def _cleaned(value: Any) -> Any:
    """A model may write anything; what can't be stored is taken out, what is too long is cut."""
    if isinstance(value, str):
        return value.replace("\x00", "").encode("utf-8", "replace").decode()[:_TEXT_CHARACTERS]
    if isinstance(value, dict):
        return {key: _cleaned(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    return value
