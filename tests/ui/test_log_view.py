from __future__ import annotations

import gc
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from rich.cells import cell_len
from textual.app import App, ComposeResult
from textual.containers import Horizontal
from textual.events import MouseScrollUp
from textual.pilot import Pilot

from echo_tui.logs.buffer import KEPT_LINES
from echo_tui.widgets.frame_clock import FrameClock
from echo_tui.widgets.log_view import LogView
from tests.support.eventually import eventually

HEIGHT = 10


class Room(App[None]):
    CSS = "LogView { width: 40; }"

    def __init__(self, *views: LogView) -> None:
        super().__init__()
        self.views = views

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield from self.views


@asynccontextmanager
async def shown(*views: LogView, width: int = 40) -> AsyncIterator[Pilot[None]]:
    app = Room(*views)
    async with app.run_test(size=(width, HEIGHT)) as pilot:
        views[0].focus()
        yield pilot


def lines(start: int, stop: int) -> list[bytes]:
    return [b"2026-11-24T14:02:29.123Z INFO  recv     line %d" % number for number in range(start, stop)]


def screen(view: LogView) -> list[str]:
    """What stands on the terminal's screen where the view is."""
    region = view.region
    rows = view.screen._compositor.render_strips()[region.y : region.bottom]
    return [strip.crop(region.x, region.right).text.rstrip() for strip in rows]


def shows(view: LogView, first: int, last: int) -> bool:
    texts = screen(view)
    return texts[0].endswith(f"line {first}") and texts[-1].split(" +")[0].rstrip().endswith(f"line {last}"[:20])


async def test_an_empty_view_says_so_and_then_shows_the_end_of_what_arrives() -> None:
    view = LogView(empty_text="Nothing from the CTO yet.")
    async with shown(view):
        assert screen(view)[0] == "Nothing from the CTO yet."
        view.append(lines(0, 3))
        await eventually(lambda: screen(view)[2].endswith("line 2"))
        assert screen(view)[3:] == [""] * 7
        view.append(lines(3, 50))
        await eventually(lambda: shows(view, 40, 49))
        assert (view.total, view.top, view.unseen, view.follow) == (50, 40, 0, True)


async def test_lines_that_were_there_before_the_view_are_shown_at_once() -> None:
    view = LogView()
    view.append(lines(0, 50))
    async with shown(view):
        assert shows(view, 40, 49)


async def test_the_reader_keeps_the_place_while_lines_arrive_and_is_told_how_many() -> None:
    view = LogView()
    view.append(lines(0, 50))
    async with shown(view) as pilot:
        await pilot.press("up", "up")
        assert (view.follow, view.top) == (False, 38)
        view.append(lines(50, 62))
        await eventually(lambda: "+12 lines" in screen(view)[-1])
        assert screen(view)[0].endswith("line 38")
        assert screen(view)[-2].endswith("line 46")
        assert view.unseen == 12
        await pilot.press("end")
        assert (view.follow, view.unseen) == (True, 0)
        await eventually(lambda: shows(view, 52, 61))


async def test_the_place_moves_only_when_its_lines_have_fallen_off() -> None:
    view = LogView()
    view.append(lines(0, KEPT_LINES))
    async with shown(view) as pilot:
        await pilot.press("home", "pagedown")
        top = view.top
        assert top == HEIGHT - 1
        view.append(lines(KEPT_LINES, KEPT_LINES + top))
        await eventually(lambda: f"+{top} lines" in screen(view)[-1])
        assert view.top == top
        assert screen(view)[0].endswith(f"line {top}")
        view.append(lines(KEPT_LINES + top, KEPT_LINES + 100))
        await eventually(lambda: screen(view)[0].endswith("line 100"))
        assert view.top == 100


@pytest.mark.parametrize(
    ("keys", "top", "follow"),
    [
        (["up"], 39, False),
        (["up", "down"], 40, True),
        (["pageup"], 31, False),
        (["home"], 0, False),
        (["home", "down"], 1, False),
        (["home", "end"], 40, True),
        (["pageup", "pagedown"], 40, True),
    ],
)
async def test_keys_move_and_the_end_follows_again(keys: list[str], top: int, follow: bool) -> None:
    view = LogView()
    view.append(lines(0, 50))
    async with shown(view) as pilot:
        await pilot.press(*keys)
        assert (view.top, view.follow) == (top, follow)
        assert shows(view, top, top + 9)


async def test_the_wheel_scrolls_the_view_below_the_pointer() -> None:
    first, second = LogView(), LogView()
    for view in (first, second):
        view.append(lines(0, 50))
    async with shown(first, second, width=80) as pilot:
        await pilot._post_mouse_events([MouseScrollUp], widget=second, offset=(3, 3))
        assert (first.top, second.top) == (40, 37)


async def test_searching_counts_and_visits_the_matches_and_stops_following() -> None:
    view = LogView()
    view.append(lines(0, 200))
    async with shown(view):
        view.search = "LINE 7"
        assert view.match_count == 11  # 7 and 70 to 79
        assert view.follow
        assert view.find_previous()
        assert not view.follow
        assert any(text.endswith("line 79") for text in screen(view))
        assert view.find_next()  # from the last to the first
        await eventually(lambda: screen(view)[HEIGHT // 2].endswith("line 7"))
        view.append([b"something with line 7"])
        assert view.match_count == 12
        view.search = "nowhere"
        assert (view.match_count, view.find_next(), view.find_previous()) == (0, False, False)
        view.search = ""
        assert (view.match_count, view.find_next()) == (0, False)


async def test_matches_are_told_apart_by_their_background() -> None:
    view = LogView()
    view.append(lines(0, 3))
    async with shown(view):
        view.search = "line"
        strip = view.render_line(0)
        backgrounds = {segment.text: segment.style.bgcolor for segment in strip if segment.style}
        assert backgrounds["line"] not in (None, backgrounds[" 0"])


async def test_hostile_text_is_inert_and_leaves_its_neighbour_alone() -> None:
    hostile, calm = LogView(), LogView()
    hostile.append(
        [
            b"\x1b]0;owned\x07\x1b[31m[bold]x[/]",
            b"\x00\xff\xfe",
            "\u202eevil".encode(),
            ("e" + "\u0301" * 3000).encode(),
            "👨‍👩‍👧‍👦❤️👍🏽漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字".encode(),
            b"x" * 10_000,
        ]
    )
    calm.append(lines(0, 50))
    async with shown(hostile, calm, width=80):
        texts = screen(hostile)
        assert texts[0] == "\\x1b]0;owned\\x07\\x1b[31m[bold]x[/]"
        assert texts[1].startswith("\\x00")
        assert texts[2] == "\\u202eevil"
        assert len(texts[3]) < 10
        assert texts[5] == "x" * 39 + "…"
        assert all(cell_len(text) <= 40 for text in texts)
        assert shows(calm, 40, 49)


async def test_a_wrapped_view_ends_with_the_last_row_and_scrolls_by_rows() -> None:
    view = LogView()
    view.append([b"word%d " % number * 20 for number in range(30)])
    view.wrap = True
    async with shown(view) as pilot:
        assert screen(view)[-1].strip().startswith("word29")
        before = screen(view)
        await pilot.press("up")
        await eventually(lambda: screen(view)[1:] == before[:-1])
        await pilot.press("home")
        await eventually(lambda: screen(view)[0].startswith("word0 word0"))
        assert screen(view)[1].strip().startswith("word0")


async def test_a_merged_view_names_who_wrote_and_orders_by_time() -> None:
    view = LogView(show_name=True)
    async with shown(view):
        view.append([b"2026-11-24T14:02:31.000Z INFO  recv     second"], "cto")
        view.append([b"2026-11-24T14:02:30.000Z INFO  recv     first"], "ceo")
        await eventually(lambda: screen(view)[1].endswith("second"))
        assert [text.split()[1] for text in screen(view)[:2]] == ["ceo", "cto"]


async def test_clearing_empties_the_view_and_follows_again() -> None:
    view = LogView()
    view.append(lines(0, 50))
    async with shown(view) as pilot:
        await pilot.press("home")
        view.clear()
        await eventually(lambda: screen(view)[0] == "No lines yet.")
        view.append(lines(50, 52))
        await eventually(lambda: screen(view)[:2] == [text for text in screen(view)[:2] if "line 5" in text])
        assert (view.total, view.top, view.follow) == (52, 50, True)


async def test_a_burst_in_many_views_is_one_frame() -> None:
    views = [LogView() for _ in range(4)]
    async with shown(*views, width=160) as pilot:
        clock = FrameClock.of(pilot.app)
        before = clock.frames
        for number in range(200):
            for view in views:
                view.append(lines(number, number + 1))
        await eventually(lambda: clock.frames > before)
        await eventually(lambda: all(shows(view, 190, 199) for view in views))
        assert clock.frames == before + 1


async def test_memory_is_bounded_by_the_lines_kept() -> None:
    view = LogView()
    async with shown(view):
        view.append(lines(0, KEPT_LINES))
        gc.collect()
        tracemalloc.start()
        try:
            for start in range(0, KEPT_LINES * 10, 1_000):
                view.append(lines(start, start + 1_000))
            await eventually(lambda: shows(view, KEPT_LINES * 10 - 10, KEPT_LINES * 10 - 1))
            assert tracemalloc.get_traced_memory()[0] < KEPT_LINES * 200
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("width", [20, 34, 66, 200])
async def test_every_row_fills_the_width_exactly(width: int) -> None:
    view = LogView()
    view.append([*lines(0, 3), b"2026-11-24T14:02:29.123Z WARN  judge    " + "漢字 text ".encode() * 40, b"foreign " * 40])
    async with shown(view, width=width):
        view.styles.width = width
        await eventually(lambda: view.size.width == width)
        for wrap in (False, True):
            view.wrap = wrap
            assert {view.render_line(y).cell_length for y in range(HEIGHT)} == {width}
            assert {sum(cell_len(segment.text) for segment in view.render_line(y)) for y in range(HEIGHT)} == {width}


async def test_a_change_of_theme_or_a_border_repaints_every_row() -> None:
    view = LogView()
    view.append(lines(0, 50))
    async with shown(view) as pilot:
        before = view.render_line(0)
        pilot.app.theme = "textual-light"
        await eventually(lambda: view.render_line(0) != before)
        assert shows(view, 40, 49)
        view.styles.border = ("solid", "red")
        await eventually(lambda: screen(view)[0].startswith("┌"))
        await eventually(lambda: screen(view)[-2].rstrip("│ ").endswith("line 49"))
        assert screen(view)[1].rstrip("│ ").endswith("line 42")
