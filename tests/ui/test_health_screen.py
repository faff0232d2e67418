"""The health screen: what the supervisor says, and the operator's hand on one agent."""

from __future__ import annotations

from dataclasses import replace

import pytest

from echo_tui.messages import Control
from echo_tui.screens.health import HealthScreen
from echo_tui.state import RoomState
from echo_tui.widgets.live_table import LiveTable
from tests.ui import data
from tests.ui.stage import Stage, text_of

SIZES = [(80, 24), (120, 36), (200, 60)]


@pytest.mark.parametrize("size", SIZES)
async def test_servers_and_agents_are_shown_with_their_state_at_every_size(size: tuple[int, int]) -> None:
    app = Stage(HealthScreen(data.room(snapshot=data.snapshot(crashed=True))))
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        shown = text_of(app)
    assert "5 of 6 agents well" in shown
    assert "pid 41188" in shown
    assert "PostgreSQL" in shown
    assert "off: rules" in shown
    assert "3 deliveries waiting" in shown
    assert "✕ crashed" in shown
    assert "killed by SIGK" in shown
    assert "esc back" in shown


async def test_a_new_state_changes_cells_in_place_and_keeps_the_chosen_agent() -> None:
    screen = HealthScreen(data.room())
    app = Stage(screen)
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.press("down", "down")
        table = screen.query_one(LiveTable)
        assert table.selected == "chro"
        first_row = next(iter(table.rows))
        busier = tuple(replace(each, rss_bytes=99_000_000, waiting=12) for each in data.agents())
        screen.show(data.room(snapshot=data.snapshot(agents=busier)))
        await pilot.pause()
        assert table.selected == "chro"
        assert next(iter(table.rows)) is first_row, "the rows were built anew"
        assert "  99" in text_of(app)


async def test_the_chosen_agent_stays_chosen_when_another_one_appears_before_it() -> None:
    screen = HealthScreen(data.room())
    app = Stage(screen)
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.press("down", "down")
        more = (data.agent("ceo"), data.agent("ceo", instance=2), *data.agents()[1:])
        screen.show(data.room(snapshot=data.snapshot(agents=more)))
        await pilot.pause()
        assert screen.query_one(LiveTable).selected == "chro"
        assert "CEO 2" in text_of(app)


async def test_numbers_end_in_the_same_column() -> None:
    app = Stage(HealthScreen(data.room()))
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.pause()
        rows = [line for line in text_of(app).splitlines() if "closed" in line and "mind" not in line]
    ends = {line.index("closed") for line in rows}
    assert len(rows) == 6
    assert len(ends) == 1


async def test_r_x_and_plus_ask_for_the_chosen_agent() -> None:
    app = Stage(HealthScreen(data.room()))
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.press("down", "r", "x", "plus")
        await pilot.pause()
    asked = [(message.op, message.arguments) for message in app.sent if isinstance(message, Control)]
    assert asked == [
        ("restart", {"role": "cto", "instance": 1}),
        ("stop", {"role": "cto", "instance": 1}),
        ("add", {"role": "cto"}),
    ]


async def test_x_starts_what_has_stopped() -> None:
    stopped = (data.agent("ceo", "stopped", pid=None), *data.agents()[1:])
    app = Stage(HealthScreen(data.room(snapshot=data.snapshot(agents=stopped))))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert "x start" in text_of(app)
        await pilot.press("x")
        await pilot.pause()
    assert [(message.op, message.arguments["role"]) for message in app.sent if isinstance(message, Control)] == [
        ("start", "ceo")
    ]


async def test_an_agent_of_another_machine_is_left_to_its_own_supervisor() -> None:
    remote = (data.agent("ceo", local=False), *data.agents()[1:])
    app = Stage(HealthScreen(data.room(snapshot=data.snapshot(agents=remote))))
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.press("r", "x")
        await pilot.pause()
        assert "runs on another machine" in text_of(app)
    assert not [message for message in app.sent if isinstance(message, Control)]


async def test_without_a_supervisor_it_says_what_it_waits_for() -> None:
    app = Stage(HealthScreen(RoomState(waited_seconds=2.5)))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("r", "x", "plus")
        assert "Waiting for the supervisor" in text_of(app)
        assert "2.5s" in text_of(app)


async def test_what_a_server_or_an_agent_says_is_shown_as_text() -> None:
    app = Stage(HealthScreen(data.hostile_room()))
    async with app.run_test(size=(200, 60)) as pilot:
        await pilot.press("down", "down", "down", "down", "down")
        await pilot.pause()
        shown = text_of(app)
    assert "[bold]x[/] [/] \\x1b[31mred" in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown
