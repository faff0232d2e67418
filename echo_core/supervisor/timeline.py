"""What the supervisor did and saw, for the `events` table: kept while PostgreSQL is away, written when it is there."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from psycopg.types.json import Jsonb

from echo_core.errors import DatabaseUnavailable
from echo_core.logs import Log
from echo_core.storage.database import Database

EVENTS = 1000  # of what can happen while PostgreSQL is away; more is only logged
LOOK_SECONDS = 0.5


class Timeline:
    """`may_write()`: whether the schema is there."""

    def __init__(self, database: Database, log: Log, *, may_write: Callable[[], bool]) -> None:
        self._database, self._log, self._may_write = database, log, may_write
        self._waiting: deque[dict[str, Any]] = deque()

    def note(self, kind: str, role: str | None, payload: dict[str, Any]) -> None:
        if len(self._waiting) >= EVENTS:
            self._log.warn("events", f"not recorded: {kind} {role} {payload}")
            return
        self._waiting.append({"kind": kind, "decision_id": None, "role": role, "payload": Jsonb(payload)})

    async def write(self) -> None:
        """Until cancelled."""
        while True:
            with suppress(DatabaseUnavailable):  # what waits stays, in its order; the light shows that PostgreSQL is away
                await self.flush()
            await asyncio.sleep(LOOK_SECONDS)

    async def flush(self) -> None:
        """Write what waits, in its order. Raises EchoError."""
        while self._waiting and self._may_write():
            await self._database.execute("insert_event", self._waiting[0])
            self._waiting.popleft()
