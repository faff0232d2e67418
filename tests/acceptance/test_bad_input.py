"""Every bad input: one line that says what to do, the right exit code, and nothing half-done."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from echo_tui.cli.main import run
from tests.support.command_line import EchoTui, Said
from tests.support.processes import processes_of

Within = Callable[..., Said]
NOBODY = "postgresql://127.0.0.1:1/x"


@pytest.fixture
def echo_tui(tmp_path: Path) -> EchoTui:
    return EchoTui(tmp_path / "data")


@pytest.fixture
def within(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Within:
    """The same program inside the test: of the many ways to be wrong, each needs no process of its own."""
    for name in [name for name in os.environ if name.startswith(("ECHO_", "OLLAMA_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ECHO_LLM", "off")
    monkeypatch.setenv("ECHO_DATA_DIR", str(tmp_path / "data"))

    def call(*arguments: str) -> Said:
        code = run(arguments)
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return call


def refused(said: Said, code: int, *words: str) -> None:
    assert said.code == code, said
    assert said.out == ""
    assert said.err.startswith("echo-tui: "), said.err
    assert said.err.count("\n") == 1, said.err
    assert "unexpected:" not in said.err
    assert "Traceback" not in said.err
    for word in words:
        assert word in said.err, said.err


def untouched(place: Path) -> None:
    assert not place.exists()
    assert processes_of(place) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "--subject", "x", "--roster", "ceo,juggler"), ("no role 'juggler'", "ceo, chro, cto")),
        (("up", "--roster", "juggler"), ("no role 'juggler'",)),
        (("up", "--roster", "ceo*99"), ("1 to 32",)),
        (("send", "--to", "juggler", "--subject", "x"), ("no role 'juggler'", "leadership", "Nothing was sent")),
        (("send", "--to", "cto", "--from", "juggler", "--subject", "x"), ("no role 'juggler'", "Nothing was sent")),
        (("logs", "juggler"), ("no log of 'juggler'",)),
        (("send", "--to", "all", "--subject", "  "), ("the subject is empty; nothing was sent",)),
        (("run", "--subject", " "), ("the subject is empty",)),
        (("run",), ("the subject is empty", "--resume")),
        (("run", "--subject", "x" * 501), ("501 characters",)),
        (("run", "--subject", "x", "--resume", "1"), ("leave --subject and --body out",)),
        (("run", "--subject", "x", "--mode", "silly"), ("--mode is 'silly'", "hierarchical")),
        (("run", "--subject", "x", "--timeout", "0"), ("--timeout",)),
        (("send", "--to", "all", "--subject", "x", "--type", "rant"), ("unknown message type 'rant'", "escalation")),
        (("up", "--delay", "-1"), ("--delay takes seconds from 0 to 600",)),
        (("up", "--delay", "soon"), ("'--delay'", "--help")),
        (("dance",), ("no such command", "--help")),
        (("run", "--subject"), ("--help",)),
        (("messages", "--retry", "x"), ("--retry takes the number of a message",)),
        (("export", "1", "--format", "pdf"), ("use md or json",)),
    ],
)
def test_what_is_asked_wrongly_is_wrong_usage(
    within: Within, tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    refused(within(*arguments), 2, *words)
    untouched(tmp_path / "data")


def test_wrong_usage_is_so_for_a_real_process_too(echo_tui: EchoTui) -> None:
    refused(echo_tui("run", "--subject", "x", "--roster", "ceo,juggler"), 2, "no role 'juggler'")
    refused(echo_tui("dance"), 2, "no such command 'dance'")
    untouched(echo_tui.data_dir)


def test_a_body_that_is_too_long_is_refused_whole(echo_tui: EchoTui) -> None:
    given = echo_tui("send", "--to", "all", "--subject", "x", "--body", "-", given="x" * 65_537)
    refused(given, 2, "65,536 bytes", "nothing was sent")
    refused(echo_tui("run", "--subject", "x", "--body", "ü" * 33_000), 2, "66,000 bytes")
    untouched(echo_tui.data_dir)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (b"[[[", "not valid TOML"),
        (b"\xff\xfe", "not valid TOML"),
        (b"[roles.a]\nreports_to = 'b'\n[roles.b]\nreports_to = 'a'", "exactly one role reports to nobody"),
        (b"[roles.a]\n[roles.a.keywords]\nx = 7", "from 0 to 1"),
    ],
)
def test_an_organisation_file_that_cannot_be_used_stops_everything_that_would_need_it(
    within: Within, tmp_path: Path, text: bytes, word: str
) -> None:
    file = tmp_path / "firm.toml"
    file.write_bytes(text)
    for command in (("run", "--subject", "x"), ("up",)):
        refused(within(*command, "--organisation", str(file)), 2, word, str(file))
    untouched(tmp_path / "data")


def test_an_organisation_file_that_is_not_there_is_named(within: Within, tmp_path: Path) -> None:
    refused(within("up", "--organisation", str(tmp_path / "none.toml")), 2, "none.toml", "--organisation")
    untouched(tmp_path / "data")


@pytest.mark.parametrize(
    ("option", "url"),
    [
        ("--database-url", "nonsense"),
        ("--database-url", "http://h/x"),
        ("--database-url", "postgresql://h:notaport/"),
        ("--database-url", "postgresql://h/x?nonsense=1"),
        ("--redis-url", "redis://h:notaport"),
        ("--redis-url", "redis://h?nonsense=1"),
        ("--ollama-host", "http://h:notaport"),
    ],
)
def test_a_url_that_cannot_be_read_is_wrong_usage(within: Within, tmp_path: Path, option: str, url: str) -> None:
    refused(within("run", "--subject", "x", option, url), 2, option)
    refused(within("status", option, url), 2, option)
    untouched(tmp_path / "data")


def test_a_server_that_refuses_stops_a_start_before_it_begins(echo_tui: EchoTui, within: Within) -> None:
    refused(echo_tui("up", "--database-url", NOBODY), 1, "PostgreSQL can't be reached", "--database-url")
    for command in (("run", "--subject", "x"), ("run", "--resume", "1")):
        refused(within(*command, "--database-url", NOBODY), 1, "PostgreSQL can't be reached", "--database-url")
    refused(within("up", "--redis-url", "redis://127.0.0.1:1"), 1, "Redis can't be reached", "--redis-url")
    for command in (("messages",), ("decisions",), ("export", "1")):
        refused(within(*command, "--database-url", NOBODY), 1, "PostgreSQL can't be reached")
    untouched(echo_tui.data_dir)


def test_without_the_database_a_message_is_held_and_its_sender_told(echo_tui: EchoTui) -> None:
    said = echo_tui("send", "--to", "all", "--subject", "x", "--database-url", NOBODY)
    assert said.code == 0
    assert "held in the outbox" in said.out
    assert echo_tui("status", "--json").json["outbox"] == 1


@pytest.mark.parametrize(
    "command", [("run", "--subject", "x"), ("up",), ("send", "--to", "all", "--subject", "x"), ("status",)]
)
def test_a_file_in_the_place_of_the_data_directory_is_one_line(
    within: Within, tmp_path: Path, command: tuple[str, ...]
) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    for place in (file, file / "sub"):
        refused(within(*command, "--data-dir", str(place)), 2, str(place), "choose another with --data-dir")
    assert file.read_text() == "mine"


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="needs a folder that even root can't write to")
def test_a_data_directory_that_cannot_be_written_to_is_one_line(within: Within, tmp_path: Path) -> None:
    place = Path("/proc/echo")
    if os.getuid() != 0:
        place = tmp_path / "closed" / "data"
        place.parent.mkdir(mode=0o500)
    for command in (("run", "--subject", "x"), ("up",), ("send", "--to", "all", "--subject", "x")):
        refused(within(*command, "--data-dir", str(place)), 2, str(place), "choose another with --data-dir")


def test_the_doctor_names_a_data_directory_that_cannot_be_used_among_its_findings(within: Within, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    said = within("doctor", "--data-dir", str(file / "sub"))
    assert (said.code, said.err) == (1, "")
    (line,) = [line for line in said.out.splitlines() if line.startswith("fail")]
    assert "choose another with --data-dir" in line


def test_reading_where_nothing_ever_ran_says_how_to_begin(within: Within, tmp_path: Path) -> None:
    for command in (("messages",), ("decisions",), ("export", "1")):
        refused(within(*command), 1, "`echo-tui up --no-agents` starts it")
    status = within("status", "--json")
    assert (status.code, status.json["supervisor"], status.json["agents"]) == (0, None, [])
    assert "`echo-tui up` starts everything" in within("status").out
    assert within("logs").out == "no logs yet; `echo-tui up` starts the organisation\n"
    stopped = within("stop")
    assert (stopped.code, stopped.out) == (0, "nothing was running\n")
    untouched(tmp_path / "data")


def test_the_control_room_without_a_terminal_says_what_works_without_one(echo_tui: EchoTui) -> None:
    refused(echo_tui(), 2, "needs a terminal", "echo-tui run")
    untouched(echo_tui.data_dir)
