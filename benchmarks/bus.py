"""What the bus costs over the raw parts it is made of, measured in the same run on the same servers. Prints JSON.

The floor of a send is an autocommitted INSERT of the same columns into a plain table, a Redis PUBLISH and its receipt; ours
is from `publish` to the start of the handler. Rounds of both alternate, so that a slower minute of the machine hits both.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import redis.asyncio as redis
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from echo_core.bus.announcements import Announcements
from echo_core.bus.message import Message
from echo_core.bus.publish import publish
from echo_core.bus.receive import Effects, Receiver
from echo_core.logs import Log
from echo_core.organisation import load_organisation
from echo_core.services import EmbeddedServers
from echo_core.settings import Settings
from echo_core.storage.database import Database
from echo_core.storage.migrations import ensure_schema
from echo_core.storage.roles import sync_roles

ROUNDS = 20
MESSAGES_PER_ROUND = 40
THROUGHPUT_ROUNDS, THROUGHPUT_PER_ROUND = 150, 20  # short and in pairs: the disk is slow by turns
WARM_UP = 60
REST_SECONDS = 0.005
BODY = "The question of this benchmark: shall we move the reporting database to another region this quarter?"

FLOOR_TABLE = """
CREATE TABLE floor_messages (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, uid uuid NOT NULL, from_role text NOT NULL, to_role text NOT NULL,
    type text NOT NULL, subject text NOT NULL, content jsonb NOT NULL, metadata jsonb NOT NULL, decision_id uuid,
    in_reply_to bigint, inserted_at timestamptz NOT NULL DEFAULT now())
"""
FLOOR_INSERT = """
INSERT INTO floor_messages (uid, from_role, to_role, type, subject, content, metadata, decision_id, in_reply_to)
VALUES (%(uid)s, %(from_role)s, %(to_role)s, %(type)s, %(subject)s, %(content)s, %(metadata)s, NULL, NULL) RETURNING id
"""


@dataclass
class Bench:
    """Connections of a sender and a receiver, ours and raw."""

    raw: psycopg.AsyncConnection[Any]
    raw_redis: redis.Redis
    database: Database
    announcements: Announcements
    database_url: str
    redis_url: str
    log: Log


def note(to: str = "cto") -> Message:
    return Message.compose("operator", to, "notification", "Benchmark", BODY)


async def floor_insert(bench: Bench) -> int:
    message = note()
    values = {
        "uid": message.uid,
        "from_role": message.from_role,
        "to_role": message.to_role,
        "type": message.type,
        "subject": message.subject,
        "content": Jsonb(message.content),
        "metadata": Jsonb(message.metadata),
    }
    row = await (await bench.raw.execute(FLOOR_INSERT, values)).fetchone()
    return int(row[0])


async def send_to_handler(bench: Bench) -> dict[str, Any]:
    """Median milliseconds from send to the handler's start, ours over the floor."""
    started = asyncio.Event()

    async def handle(message: Message) -> Effects | None:
        started.set()
        return None

    database = Database(bench.database_url, name="receiver", durable=False)
    announcements = Announcements(bench.redis_url, name="receiver")
    receiver = Receiver(database, announcements, "cto", "cto-1@bench:1", handle, bench.log)
    running = asyncio.create_task(receiver.run())
    pubsub = bench.raw_redis.pubsub()
    await pubsub.subscribe("floor")
    await pubsub.get_message(timeout=5)

    async def floor() -> float:
        begin = time.perf_counter()
        number = await floor_insert(bench)
        await bench.raw_redis.publish("floor", json.dumps({"db_id": number, "content": {"body": BODY}}))
        hint = await pubsub.get_message(timeout=5)
        json.loads(hint["data"])
        return time.perf_counter() - begin

    async def ours() -> float:
        started.clear()
        begin = time.perf_counter()
        await publish(bench.database, bench.announcements, note())
        await started.wait()
        return time.perf_counter() - begin

    for _ in range(WARM_UP):
        await floor()
        await ours()
    floors: list[float] = []
    mine: list[float] = []
    for _ in range(ROUNDS * MESSAGES_PER_ROUND):
        # Each after the same rest: the acknowledgement of the message before is part of neither.
        await asyncio.sleep(REST_SECONDS)
        floors.append(await floor())
        await asyncio.sleep(REST_SECONDS)
        mine.append(await ours())
    receiver.stop(2.0)
    await running
    await announcements.close()
    await database.close()
    await pubsub.aclose()  # type: ignore[no-untyped-call]
    return {
        "floor_median_ms": _ms(statistics.median(floors)),
        "ours_median_ms": _ms(statistics.median(mine)),
        "ours_p99_ms": _ms(_p99(mine)),
        "ratio": round(statistics.median(mine) / statistics.median(floors), 3),
        "target_ratio": 2.0,
    }


async def redis_leg(bench: Bench) -> dict[str, Any]:
    """Milliseconds from our PUBLISH to our listener; the floor is the same without anything of ours between."""
    heard = asyncio.Event()
    ready = asyncio.Event()
    announcements = Announcements(bench.redis_url, name="listener")
    listening = asyncio.create_task(announcements.listen(["leg"], lambda channel, data: heard.set(), ready.set))
    await ready.wait()
    pubsub = bench.raw_redis.pubsub()
    await pubsub.subscribe("floor leg")
    await pubsub.get_message(timeout=5)
    floors: list[float] = []
    times: list[float] = []
    payload = {"db_id": 1, **note().payload(), "id": "x"}
    for number in range(2000 + WARM_UP):
        begin = time.perf_counter()
        await bench.raw_redis.publish("floor leg", json.dumps(payload))
        await pubsub.get_message(timeout=5)
        between = time.perf_counter()
        heard.clear()
        begin_ours = time.perf_counter()
        await bench.announcements.publish("leg", payload)
        await heard.wait()
        if number >= WARM_UP:
            floors.append(between - begin)
            times.append(time.perf_counter() - begin_ours)
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    await pubsub.aclose()  # type: ignore[no-untyped-call]
    return {
        "floor_median_ms": _ms(statistics.median(floors)),
        "floor_p99_ms": _ms(_p99(floors)),
        "median_ms": _ms(statistics.median(times)),
        "p99_ms": _ms(_p99(times)),
        "target_p99_ms": 1.0,
    }


async def throughput(bench: Bench) -> dict[str, Any]:
    """Durable sends a second through one connection, ours (with deliveries) over raw autocommitted INSERTs."""

    async def timed(send: Callable[[], Awaitable[Any]]) -> float:
        begin = time.perf_counter()
        for _ in range(THROUGHPUT_PER_ROUND):
            await send()
        return THROUGHPUT_PER_ROUND / (time.perf_counter() - begin)

    raw: list[float] = []
    mine: list[float] = []
    for _ in range(THROUGHPUT_ROUNDS):
        raw.append(await timed(lambda: floor_insert(bench)))
        mine.append(await timed(lambda: publish(bench.database, None, note("chro"))))
    return {
        "raw_per_second": round(statistics.median(raw)),
        "ours_per_second": round(statistics.median(mine)),
        "ratio": round(statistics.median(ours / floor for ours, floor in zip(mine, raw, strict=True)), 3),
        "target_ratio": 0.7,
    }


async def measure(database_url: str, redis_url: str, folder: Path) -> dict[str, Any]:
    raw = await psycopg.AsyncConnection.connect(database_url, autocommit=True)
    await raw.execute(FLOOR_TABLE)
    bench = Bench(
        raw,
        redis.Redis.from_url(redis_url),
        Database(database_url, name="sender"),
        Announcements(redis_url, name="sender"),
        database_url,
        redis_url,
        Log(folder / "bench.log"),
    )
    result = {
        "send_to_handler": await send_to_handler(bench),
        "redis_leg": await redis_leg(bench),
        "throughput": await throughput(bench),
    }
    await bench.announcements.close()
    await bench.database.close()
    await bench.raw_redis.aclose()
    await raw.close()
    return result


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="echo-bench-") as folder:
        settings = Settings.load(data_dir=folder)
        settings.prepare()
        servers = EmbeddedServers(settings)
        await servers.start()
        try:
            async with await psycopg.AsyncConnection.connect(
                servers.admin_url, autocommit=True, row_factory=dict_row
            ) as connection:
                await ensure_schema(connection)
                organisation = load_organisation(None)
                await sync_roles(connection, organisation, set(organisation.roles))
            result = await measure(servers.admin_url, servers.redis_url, Path(folder))
        finally:
            await servers.stop()
    json.dump({"benchmark": "bus", **result}, sys.stdout, indent=2)
    print()


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[98]


if __name__ == "__main__":
    asyncio.run(main())
