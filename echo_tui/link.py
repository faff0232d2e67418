"""The control room's only way out: the supervisor's socket, the database, the announcements. Screens never open one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from echo_core.bus.announcements import Announcements
from echo_core.bus.message import Message
from echo_core.bus.outbox import Outbox, Sent, send
from echo_core.errors import DatabaseUnavailable, EchoError
from echo_core.settings import Settings
from echo_core.snapshot import Snapshot
from echo_core.storage.database import Database, Row
from echo_core.supervisor.client import SupervisorClient
from echo_core.workflow.commands import command
from echo_core.workflow.ledger import list_decisions, load_decision
from echo_core.workflow.record import DecisionRecord

LOOK_SECONDS = 1.0  # the database is asked this often when no announcement comes, as when Redis is away
GATHER_SECONDS = 0.05  # announcements come in bursts: one look serves a burst
_CHANNELS = ("workflow:phase", "decisions:new", "decisions:completed", "decisions:escalated", "messages:conductor")


class Link:
    """Every method may be awaited from a worker; all raise EchoError with one line for the operator, and nothing else."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.chosen: str | None = None  # a decision's id: shown until another one is chosen
        self._shown = ""
        self._newest = ""
        self.open_decisions = 0
        self._supervisor = SupervisorClient(settings)
        self._database: Database | None = None
        self._announcements: Announcements | None = None
        self._outbox = Outbox(settings.outbox_dir)
        self._mail_after: int | None = None  # the newest message this control room has looked at
        self._connected = asyncio.Event()
        self._changed = asyncio.Event()

    # -- the supervisor ------------------------------------------------------------------------------------------------

    async def snapshots(self) -> AsyncIterator[Snapshot]:
        """Every change, one a second at least; starts a supervisor when none runs. Raises EchoError when none can."""
        async for snapshot in self._supervisor.snapshots():
            self._follow_urls(snapshot)
            yield snapshot

    async def control(self, op: str, **arguments: Any) -> dict[str, Any]:
        """An operation of the control socket: start, stop, restart, add, launch. Works with both servers down."""
        return await self._supervisor.command(op, **arguments)

    async def stop_everything(self) -> None:
        """Ends all that runs in the data directory. Raises EchoError naming what still runs."""
        from echo_tui.cli.session import stop_everything

        ended = await stop_everything(self.settings)
        if ended.left:
            raise EchoError(f"still running: {', '.join(ended.left)}; `echo-tui stop` tries again")

    # -- what is on record ---------------------------------------------------------------------------------------------

    async def decision_changes(self) -> AsyncIterator[DecisionRecord | None]:
        """The decision on the screen, at once and whenever it may have changed. Raises DatabaseUnavailable."""
        while True:
            self._changed.clear()
            yield await self._current()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), LOOK_SECONDS)
                await asyncio.sleep(GATHER_SECONDS)

    async def hear_announcements(self) -> None:
        """Until cancelled: each one is a reason to look into the database."""
        await self._connected.wait()
        assert self._announcements is not None
        await self._announcements.listen(_CHANNELS, lambda _channel, _data: self._changed.set(), self._changed.set)

    async def choose(self, decision_id: str | None) -> None:
        """Show this decision; None: the newest, and each newer one as it is asked."""
        self.chosen = decision_id
        self._newest = self._newest and "left"  # whatever is the newest now counts as new
        self._changed.set()

    async def decisions(self, limit: int = 100) -> list[dict[str, Any]]:
        """Newest first: id, number, subject, mode, status, phase, pace, score, inserted_at, completed_at."""
        return await list_decisions(await self._reached(), limit)

    async def decision(self, identity: str) -> DecisionRecord:
        return await load_decision(await self._reached(), identity)

    async def messages(self, *, dead: bool = False, limit: int = 200) -> list[tuple[Message, list[Row]]]:
        """Newest first, each with its deliveries (role, state, attempts, error). `dead`: only those with a dead letter."""
        database = await self._reached()
        wanted = {"to": None, "sender": None, "decision_id": None, "dead": dead, "limit": limit}
        rows = await database.fetch_all("messages_listed", wanted)
        deliveries: dict[int, list[Row]] = {}
        for row in await database.fetch_all("deliveries_of", {"ids": [row["id"] for row in rows]}):
            deliveries.setdefault(row["message_id"], []).append(row)
        return [(Message.from_row(row), deliveries.get(row["id"], [])) for row in rows]

    async def retry(self, message_id: int, role: str | None = None) -> int:
        """Deliver a dead letter again, to one role or to all that could not handle it; returns how many."""
        database = await self._reached()
        return len(await database.fetch_all("retry_dead", {"message_id": message_id, "role": role}))

    async def model_calls(self) -> list[Row]:
        """For each role and model: calls, failed, mean milliseconds of load, first token and total, tokens."""
        return await (await self._reached()).fetch_all("model_calls")

    async def mail(self) -> list[Message]:
        """What nobody has seen yet, and what came since this was asked last: a second control room sees it too."""
        database = await self._reached()
        if self._mail_after is None:
            row = await database.fetch_one("newest_message")
            self._mail_after = row["id"] if row else 0
        rows = await database.fetch_all("operator_mail", {"after": self._mail_after})
        if rows:
            self._mail_after = max(self._mail_after, rows[-1]["id"])
            await database.execute("operator_has_seen", {"ids": [row["id"] for row in rows]})
        return [Message.from_row(row) for row in rows]

    # -- what the operator says ----------------------------------------------------------------------------------------

    async def send(self, message: Message) -> tuple[Sent, list[str]]:
        """Stored or held, and the roles it is owed to (none while it is held)."""
        database = await self._reached()
        sent = await send(database, self._announcements, self._outbox, message)
        self._changed.set()
        if sent.held:
            return sent, []
        try:
            owed = await database.fetch_all("deliveries_of", {"ids": [sent.message.id]})
        except DatabaseUnavailable:
            return sent, []  # it is stored; who it is owed to is only not known here
        return sent, [row["role"] for row in owed]

    async def command(self, name: str, decision_id: str, **content: Any) -> Sent:
        """What the operator says about a decision: a durable message to the conductor."""
        sent, _ = await self.send(command(name, decision_id, **content))
        return sent

    async def close(self) -> None:
        for part in (self._announcements, self._database):
            if part is not None:
                await part.close()

    # -- the pieces ----------------------------------------------------------------------------------------------------

    def _follow_urls(self, snapshot: Snapshot) -> None:
        if self._database is None:
            self._database = Database(snapshot.database_url, name="control room")
            self._announcements = Announcements(snapshot.redis_url, name="control room")
            self._connected.set()
        elif self._announcements is not None:
            self._database.url, self._announcements.url = snapshot.database_url, snapshot.redis_url

    async def _reached(self) -> Database:
        """Known as soon as a supervisor has answered once."""
        await self._connected.wait()
        assert self._database is not None
        return self._database

    async def _current(self) -> DecisionRecord | None:
        database = await self._reached()
        row = await database.fetch_one("current_decisions")
        if row is None or row["newest"] is None:
            return None
        self.open_decisions = row["open_decisions"]
        if self.chosen is not None:
            self._shown = self.chosen
        elif not self._newest:  # the first look: what is still open comes first
            self._shown = str(row["newest_open"] or row["newest"])
        elif self._newest != str(row["newest"]):
            self._shown = str(row["newest"])
        self._newest = str(row["newest"])
        return await load_decision(database, self._shown)
