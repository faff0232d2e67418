from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from echo_core.logs import Log
from echo_tui.logs.feed import LogFeed
from echo_tui.logs.tail import LINE_BYTES, Tail
from tests.support.eventually import eventually


def everything(tail: Tail) -> list[bytes]:
    lines = tail.read()
    while tail.behind:
        lines += tail.read()
    return lines


def numbers(lines: list[bytes]) -> list[int]:
    return [int(line.rsplit(b" ", 1)[1]) for line in lines]


def test_a_missing_file_has_no_lines_and_is_read_from_its_beginning_when_it_appears(tmp_path: Path) -> None:
    path = tmp_path / "cto.log"
    tail = Tail(path, 10)
    assert tail.read() == []
    path.write_bytes(b"a first line longer than the start\nsecond\n")
    assert tail.read() == [b"a first line longer than the start", b"second"]
    assert tail.read() == []


def test_reading_begins_near_the_end_at_a_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "cto.log"
    path.write_bytes(b"0123456\nabcdefg\nhijklmn\n")
    assert Tail(path, 12).read() == [b"hijklmn"]
    assert Tail(path, 16).read() == [b"abcdefg", b"hijklmn"]  # begins exactly at a line
    assert Tail(path, None).read() == [b"0123456", b"abcdefg", b"hijklmn"]
    assert Tail(path, 0).read() == []


def test_no_line_is_lost_or_doubled_when_the_file_is_replaced(tmp_path: Path) -> None:
    log = Log(tmp_path / "cto.log", rotate_bytes=2_000)
    tail = Tail(tmp_path / "cto.log", None)
    read: list[bytes] = []
    for number in range(400):
        log.info("recv", f"line {number}")
        if number % 7 == 0:
            read += tail.read()
    assert numbers(read + tail.read()) == list(range(400))


def test_the_last_lines_reach_back_into_the_file_that_was_just_replaced(tmp_path: Path) -> None:
    log = Log(tmp_path / "cto.log", rotate_bytes=2_000)
    for number in range(60):
        log.info("recv", f"line {number}")
    assert (tmp_path / "cto.log").stat().st_size < 1_000
    read = numbers(Tail(tmp_path / "cto.log", 1_500).read())
    assert read == list(range(read[0], 60))
    assert len(read) > 20


def test_a_file_that_is_cut_short_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "cto.log"
    path.write_bytes(b"one\ntwo\nhalf")
    tail = Tail(path)
    assert tail.read() == [b"one", b"two"]
    path.write_bytes(b"new\n")
    assert tail.read() == [b"new"]


def test_a_line_without_its_end_waits_for_it_or_for_the_file_to_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "cto.log"
    path.write_bytes(b"one\nhal")
    tail = Tail(path)
    assert tail.read() == [b"one"]
    with path.open("ab") as file:
        file.write(b"f\nlast words")
    assert tail.read() == [b"half"]
    path.rename(tmp_path / "cto.log.1")
    assert tail.read() == []
    path.write_bytes(b"again\n")
    assert tail.read() == [b"last words", b"again"]


def test_bytes_that_are_no_utf8_come_through_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "cto.log"
    path.write_bytes(b"\xff\xfe\x00\n\xc3\n")
    assert Tail(path).read() == [b"\xff\xfe\x00", b"\xc3"]


def test_one_call_reads_no_more_than_its_pace_and_the_next_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "cto.log"
    path.write_bytes(b"".join(b"line %d\n" % number for number in range(20_000)))
    tail = Tail(path, None, pace_bytes=65_536)
    first = tail.read()
    assert tail.behind
    assert sum(len(line) + 1 for line in first) <= 65_536
    assert numbers(first + everything(tail)) == list(range(20_000))


def test_lines_that_wait_too_long_are_passed_over_and_a_line_says_so(tmp_path: Path) -> None:
    path = tmp_path / "cto.log"
    path.write_bytes(b"line 0\n")
    tail = Tail(path, skip_bytes=10_000)
    assert numbers(tail.read()) == [0]
    with path.open("ab") as file:
        file.write(b"".join(b"line %d\n" % number for number in range(1, 20_000)))
    note, *rest = everything(tail)
    assert b"passed over" in note
    assert numbers(rest) == list(range(20_000 - len(rest), 20_000))
    assert 0 < sum(map(len, rest)) < 10_000


def test_a_file_without_line_ends_fills_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "cto.log"
    path.write_bytes(b"x" * (LINE_BYTES * 3))
    pieces = everything(Tail(path, None))
    assert [len(piece) for piece in pieces] == [LINE_BYTES] * 3


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to(path)], ids=["folder", "pipe", "loop"])
def test_what_is_no_file_has_no_lines_until_there_is_one(tmp_path: Path, make: object) -> None:
    path = tmp_path / "cto.log"
    make(path)  # type: ignore[operator]
    tail = Tail(path)
    assert tail.read() == []
    path.rmdir() if path.is_dir() else path.unlink()
    path.write_bytes(b"now\n")
    assert tail.read() == [b"now"]


def test_a_closed_tail_has_no_file_open(tmp_path: Path) -> None:
    (tmp_path / "cto.log").write_bytes(b"one\n")
    before = len(os.listdir("/dev/fd"))
    tail = Tail(tmp_path / "cto.log")
    tail.read()
    assert len(os.listdir("/dev/fd")) == before + 1
    tail.close()
    assert len(os.listdir("/dev/fd")) == before
    assert tail.read() == []


async def test_a_feed_tells_lines_by_name_until_a_log_is_forgotten(tmp_path: Path) -> None:
    arrived: list[tuple[str, list[bytes]]] = []
    feed = LogFeed(lambda name, lines: arrived.append((name, lines)), look_seconds=0.005)
    logs = {name: Log(tmp_path / f"{name}.log") for name in ("cto", "ceo")}
    for name in logs:
        feed.watch(name, tmp_path / f"{name}.log")
    running = asyncio.create_task(feed.run())
    logs["cto"].info("recv", "to the cto")
    await eventually(lambda: [name for name, _ in arrived] == ["cto"])
    feed.forget("cto")
    logs["cto"].info("recv", "nobody listens")
    logs["ceo"].info("recv", "to the ceo")
    await eventually(lambda: "ceo" in [name for name, _ in arrived])
    assert sum(len(lines) for name, lines in arrived if name == "cto") == 1
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert feed.names == ()
