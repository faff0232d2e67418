"""Receiving: announcements wake, the database decides. At-least-once delivery, exactly-once effect."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from echo_core.bus.announcements import Announcements
from echo_core.bus.hints import Hints
from echo_core.bus.message import Message, announcement_channel
from echo_core.bus.publish import announce, insert_message
from echo_core.errors import DatabaseUnavailable, EchoError
from echo_core.logs import Log, escaped
from echo_core.storage.database import Database
from echo_core.storage.queries import query

T = TypeVar("T")
_ERROR_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Effects:
    """What a message causes: stored with its acknowledgement in one transaction, or not at all.

    `statements` are named queries with their parameters (JSON values wrapped in `Jsonb`); they run before the messages.
    """

    messages: Sequence[Message] = ()
    statements: Sequence[tuple[str, Mapping[str, Any]]] = ()

    def __bool__(self) -> bool:
        return bool(self.messages or self.statements)


Handle = Callable[[Message], Awaitable[Effects | None]]


@dataclass(frozen=True, slots=True)
class ReceivePolicy:
    """How long a claim holds, how often a failing message is tried, and how much is claimed at once. Seconds."""

    lease_seconds: float = 15.0  # a crashed agent's message waits this long at most for its next life
    renew_seconds: float = 5.0
    tick_seconds: float = 2.0  # catch-up without Redis
    handle_seconds: float = 900.0  # beyond the slowest model on a laptop: a handler that hangs must end some day
    attempts: int = 5
    backoff_seconds: float = 0.5
    backoff_factor: float = 2.0
    maximum_backoff_seconds: float = 30.0
    batch: int = 32
    fast_seconds: float = 0.02  # handling quicker than this makes a larger batch worth its risk of being redone
    slow_seconds: float = 1.0  # handling slower than this: what else was claimed is left to other instances

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.batch < 1 or not 0 < self.renew_seconds < self.lease_seconds:
            raise ValueError(f"contradictory receive policy: {self}")

    def wait_after(self, attempt: int) -> float:
        """Exponential backoff with jitter of a half: 0.25 to 0.5 s after the first failure, doubling."""
        exponent = min(attempt - 1, 30)
        return min(self.backoff_seconds * self.backoff_factor**exponent, self.maximum_backoff_seconds) * random.uniform(
            0.5, 1
        )


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery in our hands; `attempts` counts this one and fences its acknowledgement."""

    message: Message
    attempts: int
    error: str | None = None

    @property
    def id(self) -> int:
        assert self.message.id is not None
        return self.message.id


class _LeaseLost(Exception):
    """Somebody else has the delivery: nothing of ours may be stored."""


@dataclass
class Receiver:
    """Handles what is owed to `role`, one message at a time. `owner` names this process among the role's instances.

    `handle(message)` runs outside any transaction, may run again after a crash, and returns its effects. `run()` ends
    after `stop()`; it never raises for a server that is away. `predecessors` is how the names of earlier, certainly dead
    lives of this process begin: what they had in hand is taken over at once, without waiting for their leases.
    """

    database: Database
    announcements: Announcements
    role: str
    owner: str
    handle: Handle
    log: Log
    channels: Sequence[str] = ()
    policy: ReceivePolicy = field(default_factory=ReceivePolicy)
    predecessors: str = ""

    def __post_init__(self) -> None:
        self.channels = tuple(self.channels) or (announcement_channel(self.role),)
        self.hints = Hints(self.role, self.log)
        self.in_hand: Message | None = None
        self.progress = 0  # grows with every step taken on a message
        self.waiting = 0  # deliveries owed to the role, looked up on each tick
        self._wake = asyncio.Event()
        self._stopping = False
        self._stop_by = 0.0
        self._deadline: asyncio.Timeout | None = None
        self._held: dict[int, Claim] = {}
        self._noted: list[Claim] = []  # handled without effects, not yet acknowledged
        self._flush_lock = asyncio.Lock()
        self._flush_due = asyncio.Event()
        self._limit = 1
        self._refusal = ""

    def wake(self) -> None:
        """Look for deliveries now."""
        self._wake.set()

    def stop(self, grace_seconds: float = 10.0) -> None:
        """Finish the message in hand within the grace, or give it back; then `run` returns."""
        stop_by = asyncio.get_running_loop().time() + grace_seconds
        self._stop_by = min(self._stop_by, stop_by) if self._stopping else stop_by
        self._stopping = True
        if self._deadline is not None and not self._deadline.expired():
            self._deadline.reschedule(self._stop_by)
        self._wake.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            helpers = [
                group.create_task(
                    self.announcements.listen(self.channels, self._hint, self.wake), name=f"{self.owner} announcements"
                ),
                group.create_task(self._tend(), name=f"{self.owner} leases"),
                group.create_task(self._flush_in_time(), name=f"{self.owner} acknowledgements"),
            ]
            await self._work()
            await _ended(helpers)

    # The loop -----------------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                claims = await self._claim()
                self._refusal = ""
                if claims:
                    await self._handle_batch(claims)
                    continue
                await self._explain_hints()
            except DatabaseUnavailable:
                await self._until_probe()
                continue
            except EchoError as error:
                # No table yet, no right to it: a person must look, and the next tick may find it mended.
                if str(error) != self._refusal:
                    self._refusal = str(error)
                    self.log.error("error", f"the database refused: {error}")
            await self._until_woken()
        await self._give_back(list(self._held.values()))

    async def _claim(self) -> list[Claim]:
        """The next deliveries owed to the role. Only called with empty hands: what still bears our name is ours again."""
        if self.predecessors:
            await self.database.execute(
                "release_predecessors", {"role": self.role, "owner": self.owner, "prefix": self.predecessors}
            )
            self.predecessors = ""
        self._held.clear()
        rows = await self.database.fetch_all(
            "claim_deliveries",
            {
                "role": self.role,
                "owner": self.owner,
                "limit": self._limit,
                "lease_seconds": self.policy.lease_seconds,
            },
        )
        claims = [Claim(Message.from_row(row), row["attempts"], row["error"]) for row in rows]
        for claim in claims:
            self._held[claim.id] = claim
            self.hints.claimed(claim.message)
        return claims

    async def _handle_batch(self, claims: list[Claim]) -> None:
        """In order. Effects commit one message at a time; acknowledgements without effects go together."""
        slowest = 0.0
        try:
            for position, claim in enumerate(claims):
                if self._stopping or slowest > self.policy.slow_seconds:
                    await self._give_back(claims[position:])
                    break
                started = time.monotonic()
                await self._handle_one(claim)
                slowest = max(slowest, time.monotonic() - started)
        finally:
            self.in_hand = None
            await self._persist(self._flush)
        self._limit = min(self._limit * 2, self.policy.batch) if slowest < self.policy.fast_seconds else 1

    async def _handle_one(self, claim: Claim) -> None:
        if claim.attempts > self.policy.attempts:
            died = f"its handler was ended {self.policy.attempts} times without a trace"
            await self._fail(claim, claim.error or died)
            return
        self.in_hand = claim.message
        self.progress += 1
        try:
            async with asyncio.timeout(self.policy.handle_seconds) as self._deadline:
                if self._stopping:
                    self._deadline.reschedule(self._stop_by)
                effects = await self.handle(claim.message)
        except DatabaseUnavailable:
            await self._give_back([claim])  # not the message's fault: the attempt does not count
            return
        except Exception as error:  # noqa: BLE001 - whatever a handler raises is this message's failure, not the agent's
            if self._stopping and self._deadline is not None and self._deadline.expired():
                self.log.warn("given", f"#{claim.id} back: not finished within the grace period")
                await self._give_back([claim])
            elif self._deadline is not None and self._deadline.expired():
                await self._fail(claim, f"not handled within {self.policy.handle_seconds:g} s")
            else:
                await self._fail(claim, f"{type(error).__name__}: {error}")
            return
        finally:
            self._deadline = None
        self.progress += 1
        if effects:
            await self._finish(claim, effects)
        else:
            if not self._noted:
                asyncio.get_running_loop().call_later(self.policy.fast_seconds, self._flush_due.set)
            self._noted.append(claim)

    # What becomes of a delivery -------------------------------------------------------------------------------------------

    async def _finish(self, claim: Claim, effects: Effects) -> None:
        try:
            stored = await self._persist(lambda: self._commit(claim, effects))
        except (_LeaseLost, EchoError) as error:
            if isinstance(error, _LeaseLost):
                self._release(claim)
                self.log.warn("lost", f"lease of #{claim.id}: somebody else handles it")
            else:
                await self._fail(claim, str(error))
            return
        self._release(claim)
        for message in stored or ():
            self.log.info("sent", f"#{message.id} {message.type} to {message.to_role}: {message.subject}")
            await announce(self.announcements, message)

    async def _commit(self, claim: Claim, effects: Effects) -> list[Message]:
        """Acknowledgement and effects, all or nothing. Done before (a commit whose answer got lost) counts as done."""
        try:
            async with self.database.transaction(durable=True) as connection:
                cursor = await connection.execute(query("ack_deliveries"), self._mine([claim]))
                if cursor.rowcount != 1:
                    raise _LeaseLost
                for name, parameters in effects.statements:
                    await connection.execute(query(name), parameters)
                return [await insert_message(connection, message) for message in effects.messages]
        except _LeaseLost:
            if not await self._handled_by_us(claim):
                raise
        rows = [await self.database.fetch_one("message_by_uid", {"uid": message.uid}) for message in effects.messages]
        return [Message.from_row(row) for row in rows if row is not None]

    async def _handled_by_us(self, claim: Claim) -> bool:
        row = await self.database.fetch_one("delivery_state", {"role": self.role, "message_id": claim.id})
        return row == {"state": "handled", "claimed_by": self.owner, "attempts": claim.attempts}

    async def _flush(self) -> None:
        """Acknowledge together what was handled without effects."""
        async with self._flush_lock:
            claims, self._noted = self._noted, []
            if not claims:
                return
            try:
                rows = await self.database.fetch_all("ack_deliveries", self._mine(claims))
                done = {row["message_id"] for row in rows}
                for claim in claims:
                    if claim.id not in done and not await self._handled_by_us(claim):
                        self.log.warn("lost", f"lease of #{claim.id}: somebody else handles it")
                    self._release(claim)
            except DatabaseUnavailable:
                self._noted = claims + self._noted
                raise
            self.progress += 1

    async def _fail(self, claim: Claim, error: str) -> None:
        error = escaped(error)[:_ERROR_CHARACTERS]
        dead = claim.attempts >= self.policy.attempts
        wait = self.policy.wait_after(claim.attempts)
        parameters = {
            "role": self.role,
            "owner": self.owner,
            "message_id": claim.id,
            "attempts": claim.attempts,
            "error": error,
            "dead": dead,
            "wait_seconds": wait,
        }
        if dead:
            self.log.error("dead", f"#{claim.id} after {min(claim.attempts, self.policy.attempts)} attempts: {error}")
        else:
            self.log.error("error", f"#{claim.id} attempt {claim.attempts}, again in {wait:.1f} s: {error}")
        await self._persist(lambda: self.database.execute("fail_delivery", parameters))
        self._release(claim)
        if not dead:
            asyncio.get_running_loop().call_later(wait + 0.01, self.wake)

    async def _give_back(self, claims: list[Claim]) -> None:
        """Somebody else, or we later, can have these at once; the attempt does not count."""
        if claims:
            parameters = {"role": self.role, "owner": self.owner, "message_ids": [claim.id for claim in claims]}
            await self._persist(lambda: self.database.execute("give_back_deliveries", parameters))
            for claim in claims:
                self._release(claim)

    async def _persist(self, operation: Callable[[], Awaitable[T]]) -> T | None:
        """Until the database took it; when stopping, until the grace is over (the lease then falls back by itself)."""
        while True:
            try:
                return await operation()
            except DatabaseUnavailable:
                if self._stopping and asyncio.get_running_loop().time() >= self._stop_by:
                    return None
                await self._until_probe()

    # Beside the loop ------------------------------------------------------------------------------------------------------

    async def _tend(self) -> None:
        """Renew leases while a handler works, and know how much is waiting."""
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(self.policy.tick_seconds)
            try:
                if self._held and time.monotonic() - renewed >= self.policy.renew_seconds - self.policy.tick_seconds / 2:
                    renewed = time.monotonic()
                    await self.database.execute(
                        "renew_leases",
                        {
                            "role": self.role,
                            "owner": self.owner,
                            "message_ids": list(self._held),
                            "lease_seconds": self.policy.lease_seconds,
                        },
                    )
                row = await self.database.fetch_one("waiting_deliveries", {"role": self.role})
                self.waiting = row["waiting"] if row else 0
            except EchoError:
                # The connection says once that it is lost; what the database refuses, the loop meets and logs too.
                continue

    async def _flush_in_time(self) -> None:
        """A receipt must not wait for the slow message behind it."""
        while True:
            await self._flush_due.wait()
            self._flush_due.clear()
            await self._persist(self._flush)

    async def _explain_hints(self) -> None:
        numbers = self.hints.unclaimed()
        if numbers:
            rows = await self.database.fetch_all("announced_messages", {"role": self.role, "ids": numbers})
            self.hints.explain(numbers, rows)

    def _hint(self, channel: str, data: bytes) -> None:
        if self.hints.take(channel, data):
            self._wake.set()

    async def _until_woken(self) -> None:
        try:
            async with asyncio.timeout(self.policy.tick_seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _until_probe(self) -> None:
        """While the database is away: as long as its breaker says, and never in a busy loop."""
        await asyncio.sleep(min(max(self.database.breaker.seconds_until_probe, 0.1), self.policy.tick_seconds))

    def _mine(self, claims: list[Claim]) -> dict[str, Any]:
        return {
            "role": self.role,
            "owner": self.owner,
            "message_ids": [claim.id for claim in claims],
            "attempts": [claim.attempts for claim in claims],
        }

    def _release(self, claim: Claim) -> None:
        self._held.pop(claim.id, None)


async def _ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel until all have ended: a library may swallow one cancellation that meets its own time-out."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=1.0)
