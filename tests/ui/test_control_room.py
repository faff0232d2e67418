"""The control room's keys and what it says, with fixed states and no server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from textual.events import Key
from textual.pilot import Pilot
from textual.widgets import Input, Select, TextArea

from echo_core.bus.message import BODY_BYTES
from echo_core.logs import log_line
from echo_core.snapshot import Snapshot
from echo_core.workflow.record import DecisionRecord
from echo_tui.app import EchoApp
from echo_tui.messages import Control, Say
from echo_tui.screens.help import HelpScreen
from echo_tui.screens.quit import QuitScreen
from echo_tui.widgets.composer import Composer
from tests.ui import data, scenes
from tests.ui.stage import text_of


class Heard(EchoApp):
    """Keeps what would go out to the organisation instead of saying it."""

    def __init__(self, app: EchoApp) -> None:
        super().__init__(app.settings, connect=False, clock=lambda: data.NOW)
        self.heard: list[Say | Control | Composer.Submitted] = []

    async def on_say(self, message: Say) -> None:  # type: ignore[override]
        self.heard.append(message)

    async def on_control(self, message: Control) -> None:  # type: ignore[override]
        self.heard.append(message)

    async def on_composer_submitted(self, event: Composer.Submitted) -> None:  # type: ignore[override]
        self.heard.append(event)


@asynccontextmanager
async def open_room(
    snapshot: Snapshot | None = None, decision: DecisionRecord | None = None, size: tuple[int, int] = (120, 36)
) -> AsyncIterator[tuple[Heard, Pilot[int]]]:
    app = Heard(scenes.control_room())
    async with app.run_test(size=size) as pilot:
        await scenes.show(pilot, snapshot or data.snapshot(), decision)
        yield app, pilot


def composer_of(app: EchoApp) -> Composer:
    assert app.room.composer is not None
    return app.room.composer


async def test_before_anything_answers_it_says_what_it_waits_for() -> None:
    app = scenes.control_room()
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.pause()
        assert "Waking the supervisor" in text_of(app)
        await app.show(problem="the supervisor could not start: the disk is full")
        await pilot.pause()
        assert "the disk is full" in text_of(app)


async def test_a_launch_shows_who_is_up_who_is_next_and_the_countdown() -> None:
    async with open_room(data.snapshot(launching=True)) as (app, _):
        shown = text_of(app)
        assert any("Product manager" in line[:27] and "in 1.4s" in line for line in shown.splitlines())
        assert "starting" in shown


async def test_the_composer_shows_whom_the_words_would_draw_in_and_sends_what_was_written() -> None:
    async with open_room() as (app, pilot):
        await pilot.press("b")
        await pilot.press(*"Migrate billing")
        await pilot.press("tab")
        await pilot.press(*"database")
        await pilot.pause(0.3)
        assert "keywords would draw in" in text_of(app)
        assert "Senior architect (lead)" in text_of(app)
        await pilot.press("ctrl+s")
        await pilot.pause()
        (sent,) = app.heard
        assert isinstance(sent, Composer.Submitted)
        assert (sent.message.subject, sent.message.body, sent.message.to_role) == ("Migrate billing", "database", "all")
        assert sent.message.content["pace"] == "step"


async def test_escape_keeps_the_draft_and_a_key_of_the_room_does_nothing_while_typing() -> None:
    async with open_room() as (app, pilot):
        await pilot.press("b")
        await pilot.press(*"nmz")
        await pilot.press("escape")
        await pilot.pause()
        assert not app.heard
        assert not composer_of(app).display
        await pilot.press("b")
        await pilot.pause()
        assert composer_of(app).query_one("#subject", Input).value == "nmz"


async def test_an_empty_subject_is_named_beside_its_field_and_nothing_is_sent() -> None:
    async with open_room() as (app, pilot):
        await pilot.press("b", "ctrl+s")
        await pilot.pause()
        assert "a subject is needed" in text_of(app)
        await pilot.press("x")
        await pilot.pause()
        assert "a subject is needed" not in text_of(app)
        assert not app.heard


async def test_a_body_that_is_too_long_is_named_beside_its_field_and_nothing_is_sent() -> None:
    async with open_room() as (app, pilot):
        await pilot.press("b", "x")
        composer_of(app).query_one("#body", TextArea).text = "ä" * (BODY_BYTES // 2 + 1)
        await pilot.press("ctrl+s")
        await pilot.pause()
        assert f"{BODY_BYTES:,} are possible" in text_of(app)
        assert not app.heard


async def test_what_is_pasted_with_control_characters_is_refused_or_inert() -> None:
    async with open_room() as (app, pilot):
        await pilot.press("b")
        composer_of(app).query_one("#subject", Input).value = "Hire?"
        composer_of(app).query_one("#body", TextArea).text = "a\x00b"
        await pilot.press("ctrl+s")
        await pilot.pause()
        assert "NUL" in text_of(app)
        assert not app.heard


async def test_a_refusal_stands_in_the_composer_and_the_draft_stays() -> None:
    async with open_room() as (app, pilot):
        await pilot.press("b", "x", "ctrl+s")
        await pilot.pause()
        composer_of(app).refused("unknown recipient [bold]nobody[/]")
        await pilot.pause()
        assert "unknown recipient [bold]nobody[/]" in text_of(app)
        assert composer_of(app).query_one("#subject", Input).value == "x"
        await pilot.press("ctrl+s")
        await pilot.pause()
        assert len(app.heard) == 2


async def test_a_decision_mode_is_offered_only_where_a_decision_would_be_opened() -> None:
    async with open_room() as (app, pilot):
        await pilot.press("b")
        await pilot.pause()
        assert composer_of(app).query_one("#mode").display
        composer_of(app).query_one("#to", Select).value = "cto"
        await pilot.pause(0.3)
        assert not composer_of(app).query_one("#mode").display
        assert "only a request to all opens a decision" in text_of(app)


async def test_n_goes_on_from_a_phase_that_waits() -> None:
    async with open_room(decision=data.decision_in_phase(3, waiting=True)) as (app, pilot):
        await pilot.press("n")
        await pilot.pause()
        (said,) = app.heard
        assert isinstance(said, Say)
        assert (said.name, said.content) == ("advance", {"phase": 3, "state": "waiting"})


async def test_n_cuts_a_running_phase_short_only_when_pressed_twice() -> None:
    async with open_room(decision=data.decision_in_phase(4)) as (app, pilot):
        await pilot.press("n")
        await pilot.pause()
        assert not app.heard
        assert "press n again" in text_of(app)
        await pilot.press("n")
        await pilot.pause()
        assert [said.name for said in app.heard if isinstance(said, Say)] == ["advance"]


@pytest.mark.parametrize(
    ("decision", "told"),
    [(None, "press b to ask"), (data.decided(), "is approved"), (data.escalated(), "waits for your word")],
)
async def test_n_says_why_there_is_nothing_to_go_on_with(decision: DecisionRecord | None, told: str) -> None:
    async with open_room(decision=decision) as (app, pilot):
        await pilot.press("n")
        await pilot.pause()
        assert told in text_of(app)
        assert not app.heard


async def test_a_and_p_change_the_pace_and_pause() -> None:
    decision = data.decision_in_phase(3)
    async with open_room(decision=decision) as (app, pilot):
        await pilot.press("a", "p")
        await pilot.pause()
        assert [said.name for said in app.heard if isinstance(said, Say)] == ["auto", "pause"]
        await app.show_decision(replace(decision, paused=True, pace="auto"), 1)
        await pilot.press("p", "a")
        await pilot.pause()
        assert [said.name for said in app.heard if isinstance(said, Say)][2:] == ["resume", "step"]


async def test_without_a_decision_a_sets_the_pace_of_the_next_one() -> None:
    async with open_room() as (app, pilot):
        await pilot.press("a")
        await pilot.pause()
        assert app.state.next_pace == "auto"
        assert not app.heard
        await pilot.press("b", "x", "ctrl+s")
        await pilot.pause()
        (sent,) = app.heard
        assert isinstance(sent, Composer.Submitted)
        assert sent.message.content["pace"] == "auto"


async def test_numbers_and_tab_move_the_focus_and_z_shows_one_pane_alone() -> None:
    async with open_room() as (app, pilot):
        await pilot.press("3")
        await pilot.pause()
        assert app.room.chosen_agent is not None
        assert app.room.chosen_agent.role == "chro"
        await pilot.press("tab")
        assert app.room.chosen_agent.role == "product_manager"
        await pilot.press("shift+tab", "z")
        await pilot.pause()
        assert [name for name, pane in app.room.panes.panes.items() if pane.display] == ["chro"]
        await pilot.press("escape")
        await pilot.pause()
        assert all(pane.display for pane in app.room.panes.panes.values())
        await pilot.press("9")
        await pilot.pause()
        assert "there is no pane 9" in text_of(app)


async def test_r_and_x_mean_the_focused_agent() -> None:
    crashed = data.snapshot(crashed=True)
    async with open_room(crashed) as (app, pilot):
        await pilot.press("6", "r", "2", "x")
        await pilot.pause()
        asked = [(each.op, each.arguments) for each in app.heard if isinstance(each, Control)]
        assert asked == [
            ("restart", {"role": "operations_head", "instance": 1}),
            ("stop", {"role": "cto", "instance": 1}),
        ]
        stopped = tuple(replace(a, state="stopped", pid=None) if a.role == "cto" else a for a in crashed.agents)
        await app.show_snapshot(replace(crashed, agents=stopped))
        await pilot.press("x")
        await pilot.pause()
        assert isinstance(app.heard[-1], Control)
        assert app.heard[-1].op == "start"


async def test_an_agent_of_another_machine_is_left_to_its_own_control_room() -> None:
    agents = tuple(replace(each, local=False) for each in data.agents())
    async with open_room(data.snapshot(agents=agents)) as (app, pilot):
        await pilot.press("1", "r")
        await pilot.pause()
        assert "runs on another machine" in text_of(app)
        assert not app.heard


async def test_a_crash_is_told_in_the_pane_and_on_the_event_line() -> None:
    async with open_room() as (app, pilot):
        await app.show_snapshot(data.snapshot(crashed=True))
        await pilot.pause(0.2)
        shown = text_of(app)
        assert "Operations head crashed: killed by SIGKILL" in shown
        assert "exit     killed by SIGKILL" in shown
        await app.show_snapshot(data.snapshot())
        await pilot.pause()
        assert "Operations head is healthy again" in text_of(app)


async def test_searching_marks_every_pane_and_ends_with_escape() -> None:
    async with open_room() as (app, pilot):
        await pilot.press("slash")
        await pilot.press(*"handler")
        await pilot.pause()
        assert "6 lines" in text_of(app)
        await pilot.press("enter")
        assert not app.room.reading.follow  # type: ignore[union-attr]
        await pilot.press("escape")
        await pilot.pause()
        assert all(pane.log_view.search == "" for pane in app.room.panes.panes.values())
        assert app.room.search_bar is None


async def test_the_search_ends_with_escape_also_after_tab_and_from_a_pane_that_was_clicked() -> None:
    async with open_room() as (app, pilot):
        await pilot.press("slash", "r", "tab", "e")
        await pilot.pause()
        assert app.room.search_bar is not None
        assert app.room.search_bar.query_one(Input).value == "re"
        await pilot.click(app.room.panes.panes["chro"].log_view)
        await pilot.press("escape")
        await pilot.pause()
        assert app.room.search_bar is None
        await pilot.press("d")
        await pilot.pause()
        assert app.screen is not app.room


async def test_after_a_message_to_one_role_the_composer_means_everybody_again() -> None:
    async with open_room() as (app, pilot):
        await app.action_compose("cto")
        await pilot.press("x", "ctrl+s")
        await pilot.pause()
        composer_of(app).sent()
        await pilot.press("b")
        await pilot.pause()
        assert composer_of(app).query_one("#to", Select).value == "all"


async def test_a_role_that_nobody_plays_is_named_before_the_message_is_sent() -> None:
    async with open_room() as (app, pilot):
        await app.action_compose("test_lead")
        await pilot.pause(0.3)
        assert "nobody plays Test lead now" in text_of(app)


async def test_what_is_typed_right_behind_tab_goes_to_the_next_field() -> None:
    async with open_room() as (app, pilot):
        await pilot.press("b")
        await pilot.pause()
        for key in ("s", "tab", "b"):
            app.post_message(Key(key, key if len(key) == 1 else None))
        await pilot.pause()
        assert composer_of(app).query_one("#subject", Input).value == "s"
        assert composer_of(app).query_one("#body", TextArea).text == "b"


async def test_a_server_that_goes_and_comes_back_is_told() -> None:
    async with open_room() as (app, pilot):
        lights = data.snapshot().dependencies
        down = (*(replace(each, state="down") if each.name == "redis" else each for each in lights),)
        await app.show_snapshot(data.snapshot(dependencies=down))
        await pilot.pause()
        assert "Redis is away" in text_of(app)
        await app.show_snapshot(data.snapshot(supervisor_pid=1))
        await pilot.pause()
        assert "Redis is back" in text_of(app)


async def test_a_cancelled_decision_shows_no_failed_phase_that_never_began() -> None:
    decision = data.decision_in_phase(4)
    ended = [replace(phase, state="failed") if phase.phase >= 5 else phase for phase in decision.phases]
    async with open_room(decision=replace(decision, status="cancelled", phases=tuple(ended)), size=(80, 24)) as (app, _):
        line = text_of(app).splitlines()[1]
        assert "cancelled" in line
        assert line.count("✕") == 0


async def test_m_merges_all_logs_in_the_order_of_their_times() -> None:
    async with open_room() as (app, pilot):
        app.room.append("cto", [log_line("INFO", "note", "late", data.NOW).encode()])
        app.room.append("ceo", [log_line("INFO", "note", "later", data.NOW).encode()])
        await pilot.press("m")
        await pilot.pause(0.2)
        assert app.room.merged.total == 6 * 4 + 2
        assert "late" in text_of(app)
        await pilot.press("m")
        await pilot.pause()
        assert app.room.panes.display


async def test_leaving_asks_and_staying_or_help_change_nothing() -> None:
    async with open_room(decision=data.decision_in_phase(4)) as (app, pilot):
        await pilot.press("q")
        await pilot.pause()
        assert isinstance(app.screen, QuitScreen)
        assert "6 agents" in text_of(app)
        assert "1 open decision" in text_of(app)
        await pilot.press("escape", "question_mark")
        await pilot.pause()
        assert isinstance(app.screen, HelpScreen)
        await pilot.press("escape")
        await pilot.pause()
        assert app.screen is app.room
        assert app.is_running


async def test_detaching_ends_only_the_control_room() -> None:
    async with open_room() as (app, pilot):
        await pilot.press("q", "l")
        await pilot.pause()
        assert app.return_code == 0
        assert not app.heard


@pytest.mark.parametrize("key", ["d", "h", "l", "o"])
async def test_each_screen_opens_over_the_room_and_its_key_or_escape_goes_back(key: str) -> None:
    async with open_room(decision=data.decided()) as (app, pilot):
        await pilot.press(key)
        await pilot.pause()
        assert app.screen is not app.room
        await pilot.press("escape")
        await pilot.pause()
        assert app.screen is app.room


async def test_text_of_others_is_shown_inert_everywhere() -> None:
    state = data.hostile_room()
    assert state.snapshot is not None
    async with open_room(state.snapshot, state.decision) as (app, pilot):
        name = state.snapshot.agents[0].name
        app.room.append(name, [data.HOSTILE.encode()])
        app.tell(data.HOSTILE)
        await pilot.pause(0.2)
        shown = text_of(app)
        assert "\x1b" not in shown
        assert "\u202e" not in shown
        assert "[bold]x[/]" in shown


async def test_a_terminal_that_is_too_small_is_told_what_it_needs() -> None:
    async with open_room(size=(50, 12)) as (app, pilot):
        await pilot.pause()
        assert "50x12 is too small" in text_of(app)
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert "too small" not in text_of(app)


async def test_the_palette_offers_what_has_no_key() -> None:
    async with open_room(decision=data.decision_in_phase(4)) as (app, _):
        offered = {command.title for command in app.get_system_commands(app.screen)}
        assert {"Add another CTO", "Write to CHRO", "Another discussion round", "Dark or light", "Next phase"} <= offered
