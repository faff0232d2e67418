"""Feeding a monitor: from Redis, and from the database while Redis is away."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from echo_core.bus.announcements import Announcements
from echo_core.health.monitor import HealthMonitor
from echo_core.storage.database import Database

POLL_SECONDS = 2.0


async def follow_heartbeats(monitor: HealthMonitor, announcements: Announcements) -> None:
    """Until cancelled."""

    def heard(_channel: str, data: bytes) -> None:
        monitor.hear(data)

    await announcements.listen(["agents:heartbeat"], heard)


async def follow_agent_status(monitor: HealthMonitor, announcements: Announcements, database: Database) -> None:
    """Until cancelled: while Redis is away, a changed `last_heartbeat` counts as a beat heard now. Raises EchoError."""
    seen: dict[tuple[str, int], Any] = {}
    while True:
        await asyncio.sleep(POLL_SECONDS)
        if announcements.reachable or not database.reachable:
            continue
        for row in await database.fetch_all("agent_statuses"):
            key = (row["role"], row["instance"])
            if seen.get(key) not in (None, row["last_heartbeat"]):
                monitor.hear(json.dumps(row["metadata"]).encode())
            seen[key] = row["last_heartbeat"]
