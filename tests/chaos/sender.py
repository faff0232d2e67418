"""`python -m tests.chaos.sender PLAN JOURNAL PROGRESS`: says what is planned, and may be killed at any instant.

What it was told is safe stands in the journal; its next life begins after that, and says again only what is uncertain.
Each message has its place in the run, from 0 to 1, and waits until the number in the file PROGRESS has come so far.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

from echo_core.bus.announcements import Announcements
from echo_core.bus.message import Message
from echo_core.bus.outbox import Outbox, send
from echo_core.services import resolve_urls
from echo_core.settings import Settings
from echo_core.storage.database import Database

POLL_SECONDS = 0.05
GAP_SECONDS = 0.01  # between two messages: so that they are under way while a fault works


async def say(plan: Path, journal: Path, progress: Path) -> None:
    settings = resolve_urls(Settings.load())
    database = Database(settings.database_url, name="sender")
    announcements = Announcements(settings.redis_url, name="sender")
    outbox = Outbox(settings.outbox_dir)
    safe = len(journal.read_text().splitlines()) if journal.exists() else 0
    with journal.open("a", buffering=1) as record:
        for line in plan.read_text().splitlines()[safe:]:
            one = json.loads(line)
            while float(progress.read_text()) < one["at"]:  # noqa: ASYNC110 - another process says so
                await asyncio.sleep(POLL_SECONDS)
            sent = await send(database, announcements, outbox, Message.from_json(one["message"]))
            record.write(f"{one['token']} {'held' if sent.held else 'stored'}\n")
            await asyncio.sleep(GAP_SECONDS)
    await announcements.close()
    await database.close()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    asyncio.run(say(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])))
