"""`echo-tui logs` as a process of its own."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from echo_core.logs import Log
from tests.support.eventually import eventually
from tests.support.servers import new_data_dir, remove_data_dir

COMMAND = (sys.executable, "-m", "echo_tui", "logs", "--data-dir")


@pytest.fixture
def room() -> Iterator[Path]:
    folder = new_data_dir()
    (folder / "logs").mkdir()
    yield folder
    remove_data_dir(folder)


def logs(room: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, str(room), *arguments], capture_output=True, text=True, timeout=60)


def write_two(room: Path) -> None:
    cto, ceo = (Log(room / "logs" / f"{name}.log", rotate_bytes=700) for name in ("cto", "ceo"))
    for number in range(20):
        cto.info("recv", f"cto {number} \x1b[31m")
        ceo.warn("judge", f"ceo {number}")
    with (room / "logs" / "ceo.log").open("ab") as file:
        file.write(b"Traceback \xff\x1b[0m\nno end yet")


def test_all_logs_are_one_in_the_order_of_their_times_and_inert(room: Path) -> None:
    write_two(room)
    answer = logs(room)
    assert answer.returncode == 0
    shown = answer.stdout.splitlines()
    assert [line[:24] for line in shown] == sorted(line[:24] for line in shown)
    assert any("cto recv     cto 19 \\x1b[31m" in line.replace(" INFO  ", " ") for line in shown)
    assert any(line.endswith("Traceback \ufffd\\x1b[0m") for line in shown)
    assert "\x1b" not in answer.stdout
    assert "no end yet" not in answer.stdout


def test_the_last_lines_of_one_role_as_json_reach_into_the_replaced_file(room: Path) -> None:
    write_two(room)
    values = [json.loads(line) for line in logs(room, "cto", "--json", "-n", "15").stdout.splitlines()]
    assert [value["text"] for value in values] == [f"cto {number} \\x1b[31m" for number in range(5, 20)]
    assert {(value["name"], value["level"], value["action"]) for value in values} == {("cto", "INFO", "recv")}


def test_following_goes_on_with_what_is_written_also_in_a_log_that_is_new(room: Path) -> None:
    write_two(room)
    read = room / "read"
    with read.open("wb") as out, subprocess.Popen([*COMMAND, str(room), "-f", "-n", "1"], stdout=out) as following:
        try:
            asyncio.run(eventually(lambda: b"\n" in read.read_bytes(), timeout=30))
            Log(room / "logs" / "cto.log").info("recv", "written later")
            Log(room / "logs" / "chro.log").info("ready", "a new agent")
            asyncio.run(eventually(lambda: b"written later" in read.read_bytes() and b"a new agent" in read.read_bytes()))
        finally:
            following.terminate()
    assert read.read_bytes().count(b"\n") == 3


def test_a_role_without_a_log_is_refused_in_one_line(room: Path) -> None:
    write_two(room)
    answer = logs(room, "nobody")
    assert answer.returncode != 0
    assert "no log of 'nobody'" in answer.stderr
    assert "Traceback" not in answer.stderr
