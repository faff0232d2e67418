"""What the breakers inside a process did, for the timeline: every transition, in order, also those of an outage."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from dataclasses import dataclass

from psycopg.types.json import Jsonb

from echo_core.errors import EchoError
from echo_core.health.breaker import BreakerState, CircuitBreaker
from echo_core.storage.database import Database
from echo_core.storage.queries import query

WAITING = 300  # transitions kept while PostgreSQL is away: some ten minutes of failed probes
LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Transition:
    of: str  # postgresql, redis, model:<name>
    old: BreakerState
    new: BreakerState
    reason: str


class Transitions:
    """Notes what watched breakers do and writes it as `breaker` events, once each.

    The pid in each event tells the lives of a process apart: a new one begins with every breaker closed. In an outage that
    outlasts the room, the oldest failed probes are left out: what remains is still a chain.
    """

    def __init__(self, database: Database, role: str, instance: int) -> None:
        self._database, self._role, self._instance = database, role, instance
        self._waiting: deque[Transition] = deque()

    def watch(self, name: str, breaker: CircuitBreaker) -> None:
        breaker.on_change = lambda old, new, reason: self.note(name, old, new, reason)

    def note(self, name: str, old: BreakerState, new: BreakerState, reason: str) -> None:
        self._waiting.append(Transition(name, old, new, reason))
        if len(self._waiting) > WAITING:
            self._make_room()

    async def write(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Write what waits. What PostgreSQL does not take now stays; its connection says itself that it is lost."""
        while self._waiting and self._database.reachable:
            transition = self._waiting[0]
            try:
                async with self._database.transaction(durable=True) as connection:
                    await connection.execute(query("insert_transition"), self._parameters(transition))
            except EchoError:
                return
            if self._waiting[0] is transition:
                self._waiting.popleft()

    def _parameters(self, transition: Transition) -> dict[str, object]:
        payload = {
            "instance": self._instance,
            "pid": os.getpid(),
            "of": transition.of,
            "from": transition.old,
            "to": transition.new,
            "reason": transition.reason,
        }
        return {"kind": "breaker", "role": self._role, "payload": Jsonb(payload)}

    def _make_room(self) -> None:
        """Leave out one failed probe: from open to half-open and back. Without one, the oldest goes."""
        waiting = list(self._waiting)
        for position, probe in enumerate(waiting):
            if position == 0 or probe.new is not BreakerState.HALF_OPEN:  # the first may be on its way just now
                continue
            after = next((i for i in range(position + 1, len(waiting)) if waiting[i].of == probe.of), None)
            if after is not None and waiting[after].new is BreakerState.OPEN:
                self._waiting = deque(item for i, item in enumerate(waiting) if i not in (position, after))
                return
        self._waiting.popleft()
