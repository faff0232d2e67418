"""The messages screen: what was said to whom, what became of it, and dead letters sent again."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from textual.app import App

from echo_core.bus.message import Message
from echo_core.settings import Settings
from echo_tui.link import Link
from echo_tui.screens.messages import MessagesScreen
from echo_tui.widgets.live_table import LiveTable
from tests.support.eventually import eventually
from tests.ui import data
from tests.ui.stage import Stage, text_of

SIZES = [(80, 24), (120, 36), (200, 60)]
WIDE = (120, 36)


def stage(link: Any) -> Stage:
    return Stage(MessagesScreen(data.room(data.decided(), snapshot=data.snapshot(dead=1)), link))


async def listed(app: App[None], rows: int = 5) -> LiveTable:
    table = app.screen.query_one(LiveTable)
    await eventually(lambda: table.row_count == rows)
    return table


@pytest.mark.parametrize("size", SIZES)
async def test_messages_and_the_chosen_one_are_shown_at_every_size(size: tuple[int, int]) -> None:
    app = stage(data.FixedLink())
    async with app.run_test(size=size) as pilot:
        await listed(app)
        await pilot.press("down", "down", "down")
        await pilot.pause()
        shown = text_of(app)
    assert "14:01" in shown
    assert "6 handled" in shown
    assert "1 dead" in shown
    assert "Please bring the figures for November." in shown
    assert "5 attempts" in shown
    assert "esc back" in shown


async def test_what_went_wrong_stands_with_the_recipient() -> None:
    app = stage(data.FixedLink())
    async with app.run_test(size=WIDE) as pilot:
        await listed(app)
        await pilot.press("down", "down", "down")
        await pilot.pause()
        assert "the handler failed: KeyError: 'amount'" in text_of(app)


async def test_x_leaves_only_dead_letters_and_brings_the_others_back() -> None:
    app = stage(data.FixedLink())
    async with app.run_test(size=WIDE) as pilot:
        await listed(app)
        await pilot.press("x")
        table = await listed(app, 1)
        assert table.selected == "19"
        assert "dead letters only" in text_of(app)
        await pilot.press("x")
        await listed(app, 5)


async def test_the_cursor_stays_on_its_message_when_newer_ones_come() -> None:
    link = data.FixedLink()
    app = stage(link)
    async with app.run_test(size=WIDE) as pilot:
        table = await listed(app)
        await pilot.press("down", "down")
        assert table.selected == "21"
        link.newer = 2
        await pilot.press("u")
        await listed(app, 7)
        assert table.selected == "21"


async def test_t_sends_the_chosen_dead_letter_again_and_says_how_many() -> None:
    link = data.FixedLink()
    app = stage(link)
    async with app.run_test(size=WIDE) as pilot:
        await listed(app)
        await pilot.press("t")
        await eventually(lambda: "no dead letter" in text_of(app))
        assert not link.retried
        await pilot.press("down", "down", "down", "t")
        await eventually(lambda: "1 dead letter to be delivered again" in text_of(app))
    assert link.retried == [(19, None)]


async def test_an_unreachable_database_is_told_in_one_line_and_leaves_what_was_read() -> None:
    link = data.FixedLink()
    app = stage(link)
    async with app.run_test(size=WIDE) as pilot:
        await listed(app)
        link.error = data.UNREACHABLE
        await pilot.press("u")
        await eventually(lambda: str(data.UNREACHABLE) in text_of(app))
        await pilot.press("T")
        await pilot.pause()
        assert "Board meeting moved" in text_of(app)
        link.error = None
        await pilot.press("u")
        await eventually(lambda: str(data.UNREACHABLE) not in text_of(app))


async def test_what_the_control_room_tells_and_lacks_is_said_here_too() -> None:
    screen = MessagesScreen(data.room(), data.FixedLink())  # type: ignore[arg-type]
    app = Stage(screen)
    async with app.run_test(size=WIDE) as pilot:
        await listed(app)
        screen.told("CTO stopped")
        await pilot.pause()
        assert "CTO stopped" in text_of(app)
        screen.show(data.room(problem="no supervisor answers"))
        await pilot.press("u")  # what can be read says nothing about the supervisor
        await pilot.pause()
        assert "no supervisor answers" in text_of(app)
        screen.show(data.room())
        await pilot.pause()
        assert "no supervisor answers" not in text_of(app)


async def test_without_a_way_to_the_database_it_says_so() -> None:
    app = stage(None)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("x", "t", "T", "u")
        assert "Messages stand in PostgreSQL" in text_of(app)


async def test_what_was_sent_is_shown_as_text() -> None:
    app = stage(data.FixedLink(text=data.HOSTILE))
    async with app.run_test(size=(200, 60)) as pilot:
        await listed(app)
        await pilot.press("down", "down", "down")
        await pilot.pause()
        shown = text_of(app)
    assert "for November.[bold]x[/] [/] \\x1b[31mred" in shown
    assert "'amount'[bold]x[/]" in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown


async def test_a_dead_letter_in_postgresql_is_owed_again_after_t(
    settings: Settings, database_url: str, redis_url: str, admin_url: str
) -> None:
    link = Link(settings)
    link._follow_urls(data.snapshot(database_url=database_url, redis_url=redis_url))
    sent, owed = await link.send(Message.compose("operator", "leadership", "notification", "Friday", "At ten."))
    assert {"ceo", "cto"} < set(owed)
    async with await psycopg.AsyncConnection.connect(admin_url, autocommit=True) as server:
        await server.execute(
            "UPDATE deliveries SET state = 'dead', error = 'it broke', attempts = 5 WHERE role IN ('ceo', 'cto')"
        )
        app = stage(link)
        async with app.run_test(size=WIDE) as pilot:
            table = await listed(app, 1)
            assert table.selected == str(sent.message.id)
            await eventually(lambda: f"2 dead, {len(owed) - 2} waiting" in text_of(app))
            await eventually(lambda: "it broke" in text_of(app))
            await pilot.press("t")
            await eventually(lambda: "2 dead letters to be delivered again" in text_of(app))
            await eventually(lambda: f"{len(owed)} waiting" in text_of(app))
        rows = await (await server.execute("SELECT state FROM deliveries")).fetchall()
        assert {row[0] for row in rows} == {"pending"}
    await link.close()
