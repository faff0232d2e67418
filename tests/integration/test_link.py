"""Which decision the control room shows."""

from __future__ import annotations

from dataclasses import replace

from echo_core.bus.announcements import Announcements
from echo_core.bus.message import Message
from echo_core.bus.publish import publish
from echo_core.settings import Settings
from echo_core.snapshot import Snapshot
from echo_core.storage.database import Database
from echo_tui.link import Link


def link_to(settings: Settings) -> Link:
    link = Link(settings)
    link._follow_urls(Snapshot(0.0, "", "", settings.database_url, settings.redis_url, 1))
    return link


async def shown(link: Link) -> str:
    async for record in link.decision_changes():
        return record.subject if record else ""
    raise AssertionError("no decision was told")


async def ask(database: Database, announcements: Announcements, subject: str) -> str:
    sent = await publish(database, announcements, Message.compose("operator", "all", "request", subject))
    assert sent.decision_id is not None
    return sent.decision_id


async def end(database: Database, identity: str) -> None:
    async with database.session() as connection:
        await connection.execute("UPDATE decisions SET status = 'rejected', completed_at = now() WHERE id = %s", [identity])


async def test_a_decision_stays_on_the_screen_when_it_ends_until_a_newer_one_is_asked(
    settings: Settings, database: Database, announcements: Announcements
) -> None:
    link = link_to(replace(settings))
    assert await shown(link) == ""
    first = await ask(database, announcements, "First?")
    second = await ask(database, announcements, "Second?")
    assert await shown(link) == "Second?"
    await end(database, second)
    assert await shown(link) == "Second?"
    assert link.open_decisions == 1
    await ask(database, announcements, "Third?")
    assert await shown(link) == "Third?"
    await link.choose(first)
    assert await shown(link) == "First?"
    await link.choose(None)
    assert await shown(link) == "Third?"
    await link.close()


async def test_a_room_that_opens_shows_what_is_still_open_first(
    settings: Settings, database: Database, announcements: Announcements
) -> None:
    await ask(database, announcements, "Open?")
    await end(database, await ask(database, announcements, "Ended?"))
    link = link_to(settings)
    assert await shown(link) == "Open?"
    await link.close()
