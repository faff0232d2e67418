from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from rich.cells import cell_len

from echo_core.logs import log_line
from echo_tui.logs.buffer import LineBuffer, Matches
from echo_tui.logs.line import LogLine, _local_clock, parse
from echo_tui.logs.row import CELL_CHARACTERS, Columns, Row


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    _local_clock.cache_clear()
    yield
    monkeypatch.undo()
    time.tzset()
    _local_clock.cache_clear()


def plain(row: Row) -> str:
    return "".join(part.text for part in row)


def kinds(row: Row, kind: str) -> list[str]:
    return [part.text for part in row if part.kind == kind]


RECEIVED = b"2026-11-24T14:02:29.123Z INFO  recv     #42 request from operator"
HOSTILE = [
    b"\x1b]0;owned\x07\x1b[31m\x9b2J",
    "\u202eevil\u2066 \u200b\ufeff".encode(),
    b"a\x00b\rc\x08\x0bd",
    ("e" + "\u0301" * 500).encode(),
    ("\u0e01" + "\u0e47" * 500).encode(),
    ("\u1100" + "\u1160" * 500).encode(),
    ("\u200d" * 300 + "\ufe0f" * 300).encode(),
    "👨‍👩‍👧‍👦 ❤️ 👍🏽 漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字".encode(),
    b"\xff\xfe\xc3(\xf0\x9f",
    b"[bold]x[/] [@click=quit]y[/]",
    b"\t" * 100,
    b"x" * 100_000,
    b"2026-99-99T99:99:99.999Z INFO  recv     no such day",
    b"2026-11-24T14:02:29.123Z ERROR \xe6\xbc\xa2\x1b[0m text",
    b"",
]


def test_a_line_of_ours_is_told_apart_into_its_columns() -> None:
    assert parse(RECEIVED, "cto") == LogLine("2026-11-24T14:02:29.123Z", "INFO", "recv", "#42 request from operator", "cto")
    bare = parse(log_line("ERROR", "exit", "").encode())
    assert (bare.level, bare.action, bare.text) == ("ERROR", "exit", "")


def test_a_line_that_is_not_ours_is_all_text() -> None:
    assert parse(b"Traceback (most recent call last):\r\n") == LogLine("", "", "", "Traceback (most recent call last):")
    assert parse(b"\xff") == LogLine("", "", "", "\ufffd")


@pytest.mark.usefixtures("berlin")
def test_times_are_utc_in_the_file_and_local_in_the_pane() -> None:
    assert parse(RECEIVED).clock == "15:02:29"
    assert plain(Columns(60).rows(RECEIVED)[0]) == "15:02:29 recv     #42 request from operator"


@pytest.mark.usefixtures("berlin")
def test_a_level_is_shown_only_when_it_is_not_info() -> None:
    warning, error = RECEIVED.replace(b"INFO ", b"WARN "), RECEIVED.replace(b"INFO ", b"ERROR")
    assert plain(Columns(60).rows(warning)[0]) == "15:02:29 WARN recv     #42 request from operator"
    assert kinds(Columns(60).rows(warning)[0], "warn") == ["WARN "]
    assert plain(Columns(60).rows(error)[0]) == "15:02:29 ERR  recv     #42 request from operator"
    assert plain(Columns(20).rows(error)[0]) == "E recv #42 request …"


@pytest.mark.parametrize("raw", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("wrap", [False, True])
def test_any_bytes_become_inert_rows_that_fit(raw: bytes, wrap: bool) -> None:
    for width in (1, 20, 21, 34, 66, 200):
        for row in Columns(width, name_cells=7, wrap=wrap).rows(raw, "cto")[:20]:
            text = plain(row)
            assert text.isprintable()
            assert width == 1 or cell_len(text) <= width
            assert len(text) <= width * CELL_CHARACTERS + CELL_CHARACTERS


def test_markup_is_shown_as_it_was_written() -> None:
    assert plain(Columns(60).rows(b"[bold]x[/] [@click=quit]y[/]")[0]) == "[bold]x[/] [@click=quit]y[/]"


def test_a_wide_character_is_never_cut_in_half() -> None:
    assert plain(Columns(8).rows("漢字漢字漢字".encode())[0]) == "漢字漢…"
    assert plain(Columns(12).rows("漢字漢字漢字".encode())[0]) == "漢字漢字漢字"


def test_wrapping_shows_every_word_of_a_long_line() -> None:
    words = [f"word{number}" for number in range(80)]
    for width in (20, 34, 80):
        rows = Columns(width, wrap=True).rows(log_line("INFO", "judge", " ".join(words)).encode())
        assert len(rows) > 1
        assert re.sub(r"\s", "", "".join(plain(row) for row in rows)).endswith("".join(words))


def test_every_match_is_told_apart_and_one_that_was_cut_off_marks_the_ellipsis() -> None:
    pattern = re.compile("operator", re.IGNORECASE)
    assert kinds(Columns(80, pattern=pattern).rows(RECEIVED.replace(b"#42", b"OPERATOR"))[0], "match") == [
        "OPERATOR",
        "operator",
    ]
    assert kinds(Columns(34, pattern=pattern).rows(RECEIVED)[0], "match") == ["…"]


def test_only_the_last_lines_are_kept_and_their_numbers_never_change() -> None:
    buffer = LineBuffer(kept=100)
    for number in range(250):
        buffer.append([b"line %d" % number], "cto")
    assert (buffer.first, buffer.total) == (150, 250)
    assert buffer.line(200) == (b"line 200", "cto")
    with pytest.raises(IndexError):
        buffer.line(149)


def test_lines_of_several_logs_stand_in_the_order_of_their_times() -> None:
    buffer = LineBuffer(ordered=True)
    at = "2026-11-24T14:02:{:02d}.000Z INFO  recv     {}".format
    buffer.append([at(1, "a").encode(), b"Traceback of a", at(5, "b").encode()], "cto")
    buffer.append([at(0, "c").encode(), at(3, "d").encode()], "ceo")
    assert [raw.split()[-1] for _, raw, _ in buffer.since(0)] == [b"c", b"a", b"a", b"d", b"b"]
    assert buffer.line(0)[1] == "ceo"


def test_searching_disregards_case_and_what_is_not_shown() -> None:
    buffer = LineBuffer(kept=3)
    buffer.append([RECEIVED, RECEIVED.upper(), b"other", RECEIVED], "cto")
    assert Matches(buffer, "Operator").numbers() == [1, 3]
    assert Matches(buffer, "2026").numbers() == []
    assert Matches(buffer, "INFO").numbers() == []
    assert Matches(buffer, "[").numbers() == []


def test_matches_follow_what_arrives_and_what_falls_off() -> None:
    buffer = LineBuffer(kept=10)
    matches = Matches(buffer, "x")
    buffer.append([b"x", b"y", b"x"], "")
    assert matches.numbers() == [0, 2]
    assert (matches.after(0), matches.after(2), matches.before(2), matches.before(0)) == (2, 0, 0, 2)
    buffer.append([b"x"] * 9, "")
    assert matches.numbers() == list(range(2, 12))
