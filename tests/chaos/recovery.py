"""How long the organisation needs after a server is up again: until it handles, until it stores, until it is whole."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg
import redis.asyncio as redis

from echo_core.bus.message import announcement_channel
from tests.chaos.organisation import Organisation
from tests.chaos.plan import uid

BACK_SECONDS = 90.0  # a server that is not back by then is not coming back
WHOLE_SECONDS = 60.0  # an agent may be held or being restarted by another fault meanwhile
POLL_SECONDS = 0.02
ASK_SECONDS = 3
_PROBE = """
INSERT INTO messages (uid, from_role, to_role, type, subject, content)
VALUES (%s, 'operator', %s, %s, 'Are you there again?', %s) RETURNING id
"""


@dataclass(slots=True)
class Recovery:
    """Samples in seconds. One server is down at a time, so that a sample belongs to one fault."""

    organisation: Organisation
    first_handled: list[float] = field(default_factory=list)
    first_stored: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    probes: list[str] = field(default_factory=list)  # tokens of the messages put to find out
    failures: list[str] = field(default_factory=list)
    _count: int = 0
    one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def after_restart(self, name: str, old_pid: int | None) -> None:
        """Another process than `old_pid` must come up by itself."""
        deadline = time.monotonic() + BACK_SECONDS
        while self._pid(name) in (None, old_pid):
            if time.monotonic() > deadline:
                self.failures.append(f"{name} was not started again within {BACK_SECONDS:g} s")
                return
            await asyncio.sleep(POLL_SECONDS)
        await self.after_return(name)

    async def after_return(self, name: str) -> None:
        """Measured from its first answer; one that goes down again at once (a backend died) is waited for again."""
        deadline = time.monotonic() + BACK_SECONDS
        trouble = "no answer"
        while time.monotonic() < deadline:
            if await self._answers(name):
                try:
                    return await self._measure()
                except (psycopg.Error, OSError) as error:
                    trouble = str(error)
            await asyncio.sleep(POLL_SECONDS)
        self.failures.append(f"{name} was not back within {BACK_SECONDS:g} s: {trouble}")

    async def _measure(self) -> None:
        up = time.monotonic()
        url = self.organisation.servers.postgres.url("postgres")
        async with await psycopg.AsyncConnection.connect(url, autocommit=True, connect_timeout=ASK_SECONDS) as admin:
            row = await (await admin.execute("SELECT clock_timestamp()")).fetchone()
            assert row is not None
            since = row[0]
            probes = await self._put_probes(admin)
            waits = {
                "first_handled": (
                    "SELECT EXISTS (SELECT FROM deliveries WHERE handled_at >= %s AND claimed_by NOT LIKE 'conductor%%')",
                    [since],
                ),
                "first_stored": (
                    "SELECT EXISTS (SELECT FROM messages WHERE inserted_at >= %s AND from_role = 'operator'"
                    " AND content ? 'token' AND NOT content ? 'probe')",
                    [since],
                ),
                "whole": (
                    "SELECT NOT EXISTS (SELECT FROM deliveries WHERE message_id = ANY(%s) AND state <> 'handled')",
                    [probes],
                ),
            }
            deadline = up + WHOLE_SECONDS
            while waits and time.monotonic() < deadline:
                for what, (statement, values) in list(waits.items()):
                    answer = await (await admin.execute(statement, values)).fetchone()
                    if answer is not None and answer[0]:
                        getattr(self, what).append(time.monotonic() - up)
                        del waits[what]
                await asyncio.sleep(POLL_SECONDS)
            self.failures += [f"{what} did not come within {WHOLE_SECONDS:g} s of a server's return" for what in waits]

    async def _put_probes(self, admin: psycopg.AsyncConnection[Any]) -> list[int]:
        """One message to each role."""
        return await self._put(admin, self.organisation.roles, "notification")

    async def burst(self, roles: list[str], each: int) -> None:
        """Work in hand and work waiting, so that a fault hits those who are busy. Nothing, when PostgreSQL is away."""
        url = self.organisation.servers.postgres.url("postgres")
        with suppress(psycopg.Error, OSError, TimeoutError):
            async with asyncio.timeout(ASK_SECONDS):
                async with await psycopg.AsyncConnection.connect(url, connect_timeout=ASK_SECONDS) as admin:
                    await self._put(admin, roles * each, "request")

    async def _put(self, admin: psycopg.AsyncConnection[Any], roles: list[str], type: str) -> list[int]:
        """Stored in one transaction, known to the audit once it is certain, and announced."""
        tokens, numbers = [], []
        for role in roles:
            self._count += 1
            tokens.append(f"probe-{self.organisation.folder.name}-{self._count}")
            content = json.dumps({"token": tokens[-1], "probe": True, "body": "Are you there again?"})
            row = await (await admin.execute(_PROBE, [uid(tokens[-1]), role, type, content])).fetchone()
            assert row is not None
            numbers.append(row[0])
        if not admin.autocommit:
            await admin.commit()
        self.probes += tokens
        client = redis.Redis.from_url(self.organisation.servers.redis_url, socket_timeout=ASK_SECONDS)
        with suppress(redis.RedisError, OSError):  # without Redis they find it by catch-up
            for role, number in zip(roles, numbers, strict=True):
                await client.publish(announcement_channel(role), json.dumps({"db_id": number}))
        with suppress(redis.RedisError, OSError):
            await client.aclose()
        return numbers

    def _pid(self, name: str) -> int | None:
        return self.organisation.servers.postgres_pid() if name == "postgresql" else self.organisation.servers.valkey_pid()

    async def _answers(self, name: str) -> bool:
        try:
            async with asyncio.timeout(ASK_SECONDS):
                if name == "postgresql":
                    url = self.organisation.servers.postgres.url("postgres")
                    await (await psycopg.AsyncConnection.connect(url, connect_timeout=ASK_SECONDS)).close()
                else:
                    client = redis.Redis.from_url(self.organisation.servers.redis_url, socket_timeout=ASK_SECONDS)
                    await client.ping()
                    await client.aclose()
        except (psycopg.Error, redis.RedisError, OSError, TimeoutError):
            return False
        return True

    def figures(self) -> dict[str, Any]:
        samples = {
            "first_delivery_handled": self.first_handled,
            "first_send_stored": self.first_stored,
            "every_role_handled": self.whole,
        }
        return {name: {"samples": len(times), **_figures(times)} for name, times in samples.items()}


def _figures(times: list[float]) -> dict[str, float | None]:
    if not times:
        return {"median": None, "p99": None, "maximum": None}
    p99 = statistics.quantiles(times, n=100, method="inclusive")[98] if len(times) > 1 else times[0]
    return {"median": round(statistics.median(times), 3), "p99": round(p99, 3), "maximum": round(max(times), 3)}
