from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from echo_core.logs import Log, escaped, log_line

AT = datetime(2026, 11, 24, 14, 2, 29, 123_456, tzinfo=UTC)


def test_a_line_has_its_time_level_action_and_text_in_fixed_columns() -> None:
    line = log_line("INFO", "recv", "#42 request from operator: Subject", AT)
    assert line == "2026-11-24T14:02:29.123Z INFO  recv     #42 request from operator: Subject"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("two\nlines\r\t", "two\\nlines\\r\\t"),
        ("right\u202eleft", "right\\u202eleft"),
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("half \ud800", "half \\ud800"),
        ("e" + "\u0301" * 500, "e" + "\u0301" * 4),
        ("Größe 漢字 [bold]", "Größe 漢字 [bold]"),
    ],
)
def test_what_would_act_on_a_terminal_is_written_out(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_a_log_file_is_private_and_bounded(tmp_path: Path) -> None:
    log = Log(tmp_path / "cto.log", rotate_bytes=1000)
    for number in range(100):
        log.info("recv", f"line {number}")
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["cto.log", "cto.log.1"]
    assert all(file.stat().st_size <= 1000 and file.stat().st_mode & 0o077 == 0 for file in files)
    assert files[0].read_text().endswith("line 99\n")


def test_a_log_that_cannot_be_written_stops_nothing_and_goes_on_when_it_can(tmp_path: Path) -> None:
    log = Log(tmp_path / "gone" / "cto.log")
    log.info("recv", "lost")
    assert log.lost == 1
    os.mkdir(tmp_path / "gone")
    log.info("recv", "kept")
    assert (tmp_path / "gone" / "cto.log").read_text().count("\n") == 1


def test_a_full_disk_stops_nothing() -> None:
    log = Log(Path("/dev/full"))
    log.info("recv", "lost")
    log.info("recv", "lost")
    assert log.lost == 2
