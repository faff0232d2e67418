"""The decision room: minutes that grow, and the operator's word."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from textual.containers import VerticalScroll
from textual.pilot import Pilot
from textual.widgets import TextArea

from echo_core.workflow.record import DecisionRecord
from echo_tui.messages import Say
from echo_tui.screens.decision import DecisionScreen
from echo_tui.widgets.decision_list import DecisionList
from echo_tui.widgets.minutes import minutes_lines
from tests.support.eventually import eventually
from tests.ui import data
from tests.ui.stage import Stage, text_of

SIZES = [(80, 24), (120, 36), (200, 60)]
WIDE = (120, 36)


def said(app: Stage) -> list[tuple[str, dict[str, object]]]:
    return [(message.name, message.content) for message in app.sent if isinstance(message, Say)]


def stage(record: DecisionRecord | None) -> Stage:
    return Stage(DecisionScreen(data.room(record)))


async def typed(pilot: Pilot[None], text: str) -> None:
    await eventually(lambda: pilot.app.screen.query(TextArea))
    pilot.app.screen.query_one(TextArea).text = text
    await pilot.press("ctrl+s")
    await pilot.pause()


def whole(record: DecisionRecord | None, width: int = 100, **changes: object) -> str:
    return "\n".join(line.plain for line in minutes_lines(data.room(record, **changes), width))


# -- the minutes -------------------------------------------------------------------------------------------------------


def test_the_minutes_read_in_the_order_of_a_good_meeting() -> None:
    text = whole(data.decided())
    order = ["before the year ends?", "Approved", "score 0.75; 0.60 was needed", "side by side", "Why", "Actions",
             "Senior architect", "within 4 weeks", "Dissent", "I would start in January", "Positions, round 1",
             "Positions, round 2", "Votes", "Who took part", "How it was made"]  # fmt: skip
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert "10 from rules, 5 from keywords, 3 from a model, 1 from the operator" in " ".join(text.split())
    assert "operations_head did not answer in phase 4" in text


@pytest.mark.parametrize("width", [40, 46, 62, 76, 112])
@pytest.mark.parametrize(
    "record", [data.decided(), data.escalated(), *(data.decision_in_phase(number) for number in range(1, 7))]
)
def test_no_line_is_wider_than_its_room(record: DecisionRecord, width: int) -> None:
    assert max(line.cell_length for line in minutes_lines(data.room(record), width)) <= width


@pytest.mark.parametrize(
    ("record", "waits"),
    [
        (data.decision_in_phase(2), "Waiting for the question to be received by Senior architect and Operations head"),
        (data.decision_in_phase(3), "Waiting for the stance of CEO and CHRO"),
        (data.decision_in_phase(4), "round 2 of 2"),
        (data.decision_in_phase(5), "Waiting for the vote of Product manager"),
        (data.decision_in_phase(6), "Waiting for the outcome, written by CEO"),
        (data.decision_in_phase(4, waiting=True), "It waits for you, for 46s now: press n to go on"),
        (data.decision_in_phase(4, paused=True), "Press p to resume"),
        (data.escalated(), "Press y to approve"),
    ],
)
def test_an_open_decision_says_what_it_waits_for(record: DecisionRecord, waits: str) -> None:
    assert waits in " ".join(whole(record).split())


def test_startup_names_the_agents_that_are_not_there_yet() -> None:
    text = whole(data.decision_in_phase(1), snapshot=data.snapshot(launching=True))
    assert "CHRO (starting)" in text
    assert "Operations head" in text


def test_the_board_shows_the_score_so_far_against_the_threshold_and_the_quorum() -> None:
    text = whole(data.decision_in_phase(5))
    assert "0.80  0.60 or more approves" in text
    assert "3 of 4 for or against; 2 are needed" in text
    before = whole(data.decision_in_phase(5, votes=()))
    assert "nobody voted for or against yet" in before
    assert "not yet" in before


def test_the_operators_own_verdict_and_reason_stand_in_the_minutes() -> None:
    ended = {**data.outcome(), "decided_by": "operator", "operator_reason": "the board asked for it"}
    assert "by the operator: the board asked for it" in whole(data.decided(status="rejected", outcome=ended))


def test_a_cancelled_decision_says_that_nothing_was_decided() -> None:
    cancelled = data.decision_in_phase(3, status="cancelled", completed_at=data.NOW)
    assert "nothing was decided" in whole(cancelled)


# -- the screen --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
async def test_the_decision_is_shown_at_every_size_with_the_keys_that_matter(size: tuple[int, int]) -> None:
    app = stage(data.decision_in_phase(5))
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        shown = text_of(app)
        assert app.screen.query_one(DecisionList).display is (size[0] >= 100)
    assert "▶ 5 Consensus" in shown
    keys = ["n next", "a auto", "p pause", "s speak", "i another round", "v overrule", "e escalate", "c cancel", "g export"]
    assert not [key for key in [*keys, "t list" if size[0] < 100 else "tab list", "esc back"] if key not in shown]


async def test_a_new_state_changes_the_minutes_and_keeps_the_place_in_them() -> None:
    screen = DecisionScreen(data.room(data.decision_in_phase(5)))
    app = Stage(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("pagedown")
        page = screen.query_one("#page", VerticalScroll)
        await eventually(lambda: page.scroll_y > 0 and not app.animator.is_being_animated(page, "scroll_y"))
        place = page.scroll_y
        screen.show(data.room(data.decided()))
        await pilot.pause()
        assert page.scroll_y == place
        assert "✔ approved" in text_of(app)


async def test_the_chosen_decision_becomes_the_control_rooms_too() -> None:
    link = data.FixedLink()
    screen = DecisionScreen(data.room(data.decided()), link)  # type: ignore[arg-type]
    app = Stage(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await eventually(lambda: screen.query_one(DecisionList).option_count == 5)
        await pilot.press("t", "down", "enter")
        await eventually(lambda: link.chosen == "a1")
        assert not screen.query_one(DecisionList).display
        await pilot.press("t", "home", "enter")
        await eventually(lambda: link.chosen is None)


async def test_the_list_is_never_behind_the_minutes_beside_it() -> None:
    link = data.FixedLink()
    screen = DecisionScreen(data.room(data.decision_in_phase(5)), link)  # type: ignore[arg-type]
    app = Stage(screen)
    async with app.run_test(size=WIDE):
        await eventually(lambda: screen.query_one(DecisionList).option_count == 5)
        screen.show(data.room(data.decided()))
        await eventually(lambda: "approved 0.75" in text_of(app))
        screen.show(data.room(data.decision_in_phase(1, id="b1", number=40)))
        await eventually(lambda: screen.query_one(DecisionList).option_count == 6)


async def test_an_unreachable_database_is_told_in_one_line_and_leaves_the_minutes() -> None:
    link = data.FixedLink()
    link.error = data.UNREACHABLE
    app = Stage(DecisionScreen(data.room(data.decided()), link))  # type: ignore[arg-type]
    async with app.run_test(size=WIDE):
        await eventually(lambda: str(data.UNREACHABLE) in text_of(app))
        assert "Approved" in text_of(app)


async def test_without_a_decision_it_says_how_to_make_one() -> None:
    app = stage(None)
    async with app.run_test(size=(80, 24)) as pilot:
        for key in "siveywcg":
            await pilot.press(key)
        assert "No decision yet" in text_of(app)
        assert "press b to ask" in text_of(app)
    assert not said(app)


# -- the operator's word -----------------------------------------------------------------------------------------------


async def test_what_the_operator_says_goes_into_the_discussion() -> None:
    app = stage(data.decision_in_phase(4))
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("s")
        await typed(pilot, "")
        assert "There is nothing here yet" in text_of(app)
        await typed(pilot, "Mind the freeze.\nIt is on the 15th.")
    assert said(app) == [("speak", {"text": "Mind the freeze.\nIt is on the 15th.", "round": 2})]


async def test_escape_takes_a_word_back() -> None:
    app = stage(data.decision_in_phase(4))
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("s", "h", "i", "escape")
        await pilot.pause()
        assert isinstance(app.screen, DecisionScreen)
    assert not said(app)


async def test_an_overruling_names_its_status_and_its_reason() -> None:
    app = stage(data.decision_in_phase(4))
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("v")
        await eventually(lambda: "Overrule" in text_of(app))
        await pilot.press("r")
        await typed(pilot, "too early")
    assert said(app) == [("overrule", {"status": "rejected", "reason": "too early"})]


@pytest.mark.parametrize(("key", "name"), [("y", "approve"), ("w", "reject")])
async def test_an_escalated_decision_takes_the_operators_verdict(key: str, name: str) -> None:
    app = stage(data.escalated())
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press(key)
        await typed(pilot, "")
    assert said(app) == [(name, {"reason": ""})]


async def test_a_verdict_on_what_does_not_wait_for_one_is_answered_with_the_way() -> None:
    app = stage(data.decision_in_phase(4))
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("y")
        await pilot.pause()
        assert "v overrules" in text_of(app)
    assert not said(app)


async def test_another_round_needs_a_first_one() -> None:
    app = stage(data.decision_in_phase(2))
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("i")
        assert "There was no discussion yet" in text_of(app)
    assert not said(app)
    app = stage(data.decision_in_phase(5))
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("i")
        await pilot.pause()
    assert said(app) == [("another_round", {})]


@pytest.mark.parametrize(("key", "name"), [("c", "cancel"), ("e", "escalate")])
async def test_what_cannot_be_taken_back_is_asked_first(key: str, name: str) -> None:
    app = stage(data.decision_in_phase(4))
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press(key, "n", key, "escape")
        await pilot.pause()
        assert not said(app)
        await pilot.press(key, "y")
        await pilot.pause()
    assert said(app) == [(name, {})]


async def test_an_ended_decision_takes_no_more_words() -> None:
    app = stage(data.decided())
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("s", "i", "v", "y", "w", "e", "c")
        await pilot.pause()
        assert "#7 is approved" in text_of(app)
    assert not said(app)


async def test_the_minutes_are_written_beside_what_is_there_and_never_over_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "decision-7.md").write_text("mine")
    app = stage(data.decided())
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("g")
        await eventually(lambda: "decision-7-2.md" in text_of(app))
        await pilot.press("g")
        await eventually(lambda: "decision-7-3.md" in text_of(app))
    assert (tmp_path / "decision-7.md").read_text() == "mine"
    assert "Run both databases in parallel" in (tmp_path / "decision-7-2.md").read_text()


async def test_minutes_that_cannot_be_written_are_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    app = stage(data.decided())
    async with app.run_test(size=WIDE) as pilot:
        monkeypatch.setattr(Path, "cwd", lambda: folder)
        folder.rmdir()
        await pilot.press("g")
        await eventually(lambda: "can't be written" in text_of(app))


async def test_what_people_and_models_wrote_is_shown_as_text() -> None:
    state = data.hostile_room()
    page = "\n".join(line.plain for line in minutes_lines(state, 200))
    assert page.count("[bold]x[/] [/] \\x1b[31mred") >= 10
    link = data.FixedLink(text=data.HOSTILE)
    app = Stage(DecisionScreen(state, link))  # type: ignore[arg-type]
    async with app.run_test(size=(200, 60)):
        await eventually(lambda: app.screen.query_one(DecisionList).option_count == 5)
        shown = text_of(app)
    assert "[bold]x[/] [/] \\x1b[31mred" in shown
    assert "Lisbon?[bold]x[/]" in shown
    for text in (page, shown):
        assert "\x1b" not in text
        assert "\u202e" not in text


async def test_the_question_before_a_cancellation_is_shown_as_text() -> None:
    record = replace(data.decision_in_phase(4), subject=f"Subject {data.HOSTILE}")
    app = stage(record)
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("c")
        await eventually(lambda: "It ends without a decision" in text_of(app))
        assert "Subject [bold]x[/] [/] \\x1b[31mred" in text_of(app)
        assert "\u202e" not in text_of(app)
