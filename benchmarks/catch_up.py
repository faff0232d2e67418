"""How fast one agent catches up with 10,000 waiting messages, and how much it grows by it. Prints JSON.

The floor is measured in the same run: one psycopg connection that does the same claims and acknowledgements and nothing
else. The agent is a real process; its rate is what the database saw, from its first acknowledgement to its last.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from typing import Any

import psutil
import psycopg
from psycopg.rows import dict_row

from echo_core.organisation import load_organisation
from echo_core.services import EmbeddedServers
from echo_core.settings import Settings
from echo_core.storage.migrations import ensure_schema
from echo_core.storage.queries import query
from echo_core.storage.roles import sync_roles

ROUNDS = 3
WAITING = 10_000
BATCH = 32  # what an agent claims at once when it is quick
LEASE_SECONDS = 15
AT_MOST_SECONDS = 300
ROLE, FLOOR_ROLE = "ceo", "senior_architect"
BODY = "The question of this benchmark: shall we move the reporting database to another region this quarter?"

Connection = psycopg.AsyncConnection[dict[str, Any]]


async def leave_waiting(connection: Connection, role: str) -> int:
    """10,000 messages that nobody announced. Returns the id of the last one before them."""
    row = await (await connection.execute("SELECT coalesce(max(id), 0) AS id FROM messages")).fetchone()
    assert row is not None
    await connection.execute(
        "INSERT INTO messages (from_role, to_role, type, subject, content) "
        "SELECT 'operator', %s, 'notification', 'Waiting ' || n, jsonb_build_object('body', %s::text) "
        "FROM generate_series(1, %s) n",
        [role, BODY, WAITING],
    )
    await connection.execute("ANALYZE deliveries")
    return int(row["id"])


async def floor(url: str, connection: Connection) -> float:
    """Messages a second of the same statements in the same batches on one connection."""
    await leave_waiting(connection, FLOOR_ROLE)
    raw = await psycopg.AsyncConnection.connect(url, autocommit=True, row_factory=dict_row)
    await raw.execute("SET synchronous_commit TO off")
    mine = {"role": FLOOR_ROLE, "owner": "raw"}
    handled = 0
    begun = time.perf_counter()
    while handled < WAITING:
        claim = {**mine, "limit": BATCH, "lease_seconds": LEASE_SECONDS}
        rows = await (await raw.execute(query("claim_deliveries"), claim)).fetchall()
        ids = {"message_ids": [row["id"] for row in rows], "attempts": [row["attempts"] for row in rows]}
        await raw.execute(query("ack_deliveries"), {**mine, **ids})
        handled += len(rows)
    seconds = time.perf_counter() - begun
    await raw.close()
    return handled / seconds


async def agent(process: psutil.Process, connection: Connection) -> tuple[float, int]:
    """Messages a second of the agent, and the bytes it grew by at most meanwhile."""
    before = process.memory_info().rss
    most = before
    since = await leave_waiting(connection, ROLE)
    begun = time.perf_counter()
    while True:
        row = await (
            await connection.execute(
                "SELECT count(*) FILTER (WHERE state = 'handled') AS handled,"
                " extract(epoch FROM max(handled_at) - min(handled_at))::float8 AS seconds,"
                " count(*) FILTER (WHERE handled_at = (SELECT min(handled_at) FROM deliveries"
                " WHERE role = %(role)s AND message_id > %(since)s)) AS at_first"
                " FROM deliveries WHERE role = %(role)s AND message_id > %(since)s",
                {"role": ROLE, "since": since},
            )
        ).fetchone()
        assert row is not None
        most = max(most, process.memory_info().rss)
        if row["handled"] == WAITING:
            return (WAITING - row["at_first"]) / row["seconds"], most - before
        if time.perf_counter() - begun > AT_MOST_SECONDS:
            raise TimeoutError(f"only {row['handled']} of {WAITING} were handled within {AT_MOST_SECONDS} s")
        await asyncio.sleep(0.25)


async def until_ready(connection: Connection) -> None:
    """Its first report stands in agent_status, and it has handled something."""
    await connection.execute(
        "INSERT INTO messages (from_role, to_role, type, subject) VALUES ('operator', %s, 'request', 'Ready?')", [ROLE]
    )
    begun = time.perf_counter()
    while time.perf_counter() - begun < AT_MOST_SECONDS:
        row = await (await connection.execute("SELECT FROM messages WHERE from_role = %s", [ROLE])).fetchone()
        if row is not None:
            return
        await asyncio.sleep(0.05)
    raise TimeoutError("the agent did not answer")


async def measure(settings: Settings, servers: EmbeddedServers) -> dict[str, Any]:
    connection = await psycopg.AsyncConnection.connect(servers.admin_url, autocommit=True, row_factory=dict_row)
    await ensure_schema(connection)
    organisation = load_organisation(None)
    await sync_roles(connection, organisation, {ROLE, FLOOR_ROLE})
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "echo_core.agents", ROLE, "--autonomous", "--supervised"),
        env={**os.environ, **settings.environment()},
    )
    floors, rates, grown = [], [], []
    try:
        await until_ready(connection)
        process = psutil.Process(running.pid)
        for _ in range(ROUNDS):
            floors.append(await floor(servers.database_url, connection))
            rate, growth = await agent(process, connection)
            rates.append(rate)
            grown.append(growth)
    finally:
        running.terminate()
        await running.wait()
        await connection.close()
    return {
        "messages": WAITING,
        "rounds": ROUNDS,
        "floor_per_second": round(statistics.median(floors)),
        "agent_per_second": round(statistics.median(rates)),
        "ratio": round(statistics.median(rate / floor for rate, floor in zip(rates, floors, strict=True)), 3),
        "target_ratio": 0.5,
        "grown_mib": round(max(grown) / 2**20, 2),
        "target_grown_mib": 20,
    }


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="echo-bench-") as folder:
        settings = replace(Settings.load(data_dir=folder, environ={}), llm="off")
        settings.prepare()
        servers = EmbeddedServers(settings)
        await servers.start()
        try:
            result = await measure(settings, servers)
        finally:
            await servers.stop()
    json.dump({"benchmark": "catch_up", **result}, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    asyncio.run(main())
