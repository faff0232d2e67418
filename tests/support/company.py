"""Agents that are not there: their heartbeats and answers written by the test, so that every instant can be arranged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from echo_core.bus.announcements import Announcements
from echo_core.bus.message import Message
from echo_core.bus.publish import insert_message, publish
from echo_core.health.states import Heartbeat
from echo_core.storage.database import Database
from echo_core.storage.queries import query
from echo_core.workflow.commands import command
from echo_core.workflow.ledger import load_decision
from echo_core.workflow.record import DecisionRecord
from tests.support.eventually import eventually

BEAT_SECONDS = 0.5


class Company:
    """`alive` beat; what they are asked waits in the database until the test answers, or `answering` does it at once."""

    def __init__(self, database: Database, announcements: Announcements, roles: Iterable[str]) -> None:
        self.database, self.announcements = database, announcements
        self.alive = set(roles)
        self.stances = {**dict.fromkeys(self.alive, "assist"), "cto": "lead"}
        self.votes = dict.fromkeys(self.alive, "approve")
        self.silent: set[str] = set()  # alive, and yet they do not answer
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Company:
        self._tasks.append(asyncio.create_task(self._beat()))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def answer_everything(self) -> None:
        self._tasks.append(asyncio.create_task(self._answering()))

    async def stops(self, role: str) -> None:
        """It says goodbye, like an agent that was told to stop."""
        self.alive.discard(role)
        await self.announcements.publish("agents:heartbeat", Heartbeat(role, 1, 1, "stopped").payload())

    async def open(self, subject: str = "Shall we?", body: str = "", **content: Any) -> str:
        question = Message.compose("operator", "all", "request", subject, body, content=content)
        decision = (await publish(self.database, self.announcements, question)).decision_id
        assert decision is not None
        return decision

    async def say(self, name: str, decision: str, **content: Any) -> None:
        await publish(self.database, self.announcements, command(name, decision, **content))

    async def record(self, decision: str) -> DecisionRecord:
        return await load_decision(self.database, decision)

    async def reaches(self, decision: str, check: Callable[[DecisionRecord], bool], what: str) -> DecisionRecord:
        async def reached() -> DecisionRecord | None:
            record = await self.record(decision)
            return record if check(record) else None

        return await eventually(reached, timeout=15, what=what)  # type: ignore[return-value]

    async def asked(self, decision: str, ask: str, role: str | None = None) -> list[Message]:
        """What the conductor asked and nobody has answered yet."""
        async with self.database.session() as connection:
            rows = await (
                await connection.execute(
                    "SELECT m.* FROM messages m JOIN deliveries d ON d.message_id = m.id"
                    " WHERE m.decision_id = %s AND m.from_role = 'conductor' AND m.content ->> 'ask' = %s"
                    " AND (%s::text IS NULL OR m.to_role = %s::text) AND d.state = 'pending' ORDER BY m.id",
                    [decision, ask, role, role],
                )
            ).fetchall()
        return [Message.from_row(row) for row in rows]

    async def receive_all(self) -> None:
        """The question itself has reached everybody who is alive."""
        async with self.database.session() as connection:
            await connection.execute(
                "UPDATE deliveries d SET state = 'handled', handled_at = now() FROM messages m"
                " WHERE m.id = d.message_id AND m.to_role = 'all' AND d.role = ANY(%s) AND d.state = 'pending'",
                [sorted(self.alive - self.silent)],
            )

    async def answer(self, request: Message, **fields: Any) -> None:
        """As an agent does it: the answer, its record and the acknowledgement in one transaction."""
        role, ask = request.to_role, request.content["ask"]
        number = int(request.content.get("round", 1))
        common = {"role": role, "round": number, "source": "rules", "decision_id": request.decision_id}
        kinds: dict[str, dict[str, Any]] = {
            "judge": {"answer": "judgement", "stance": self.stances[role], "confidence": 0.9, "reasoning": "mine"},
            "contribute": {"answer": "contribution", "text": f"{role} in round {number}", "position": "for"},
            "vote": {"answer": "vote", "vote": self.votes[role], "confidence": 0.8, "rationale": f"{role} thinks so"},
            "synthesise": {"answer": "outcome", "summary": "So be it.", "rationale": "All said so.", "actions": []},
        }
        content = {**common, **kinds[ask], **fields}
        async with self.database.transaction() as connection:
            if ask == "judge":
                await connection.execute(query("record_participation"), {**content, "model": None, "latency_ms": 1.0})
            if ask == "vote":
                await connection.execute(query("record_vote"), content)
            reply = Message.compose(
                role, "conductor", "response", "Re", content=content, decision_id=request.decision_id, in_reply_to=request.id
            )
            stored = await insert_message(connection, reply)
            await connection.execute(
                "UPDATE deliveries SET state = 'handled', handled_at = now() WHERE message_id = %s AND role = %s",
                [request.id, role],
            )
        await self.announcements.publish("messages:conductor", stored.payload())

    async def answer_all(self, decision: str, ask: str, count: int, **fields: Any) -> None:
        """Wait until `count` roles are asked, then answer for so many."""

        async def all_asked() -> list[Message] | None:
            found = await self.asked(decision, ask)
            return found[:count] if len(found) >= count else None

        for request in await eventually(all_asked, timeout=15, what=f"{count} asked to {ask}"):  # type: ignore[union-attr]
            await self.answer(request, **fields)

    async def _beat(self) -> None:
        while True:
            for number, role in enumerate(sorted(self.alive)):
                await self.announcements.publish("agents:heartbeat", Heartbeat(role, 1, 1000 + number, "healthy").payload())
            await asyncio.sleep(BEAT_SECONDS)

    async def _answering(self) -> None:
        while True:
            await self.receive_all()
            async with self.database.session() as connection:
                rows = await (
                    await connection.execute(
                        "SELECT m.* FROM messages m JOIN deliveries d ON d.message_id = m.id WHERE d.state = 'pending'"
                        " AND m.from_role = 'conductor' AND m.content ? 'ask' AND d.role = ANY(%s) ORDER BY m.id",
                        [sorted(self.alive - self.silent)],
                    )
                ).fetchall()
            for row in rows:
                await self.answer(Message.from_row(row))
            await asyncio.sleep(0.02)
