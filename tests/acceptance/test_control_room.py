"""The control room as a person meets it: a real process in a pseudo-terminal, real servers, agents by rules."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from echo_core.bus.message import BODY_BYTES
from echo_core.services import EmbeddedServers
from echo_core.settings import DEFAULT_ROSTER, Settings
from echo_core.supervisor.child import lock_holder
from tests.support.command_line import PROGRAM, EchoTui
from tests.support.processes import end_all, processes_of
from tests.support.servers import new_data_dir, remove_data_dir
from tests.support.terminal import Terminal

START_SECONDS = 60.0  # for seven interpreters and two servers, however busy the machine is
HELP = "send it (in the composer)"  # a line of the help screen, in sight at every size
SUBJECT_HINT = "What should the organisation decide?"


@pytest.fixture(scope="module")
def running() -> Iterator[EchoTui]:
    """One organisation of six for all tests that leave it running."""
    data_dir = new_data_dir()
    echo = EchoTui(data_dir)
    try:
        said = echo("up", "--delay", "0")
        assert said.code == 0, said.err
        yield echo
        said = echo("stop")
        assert said.code == 0, said.err
        assert not processes_of(data_dir)
    finally:
        end_all(data_dir)
        remove_data_dir(data_dir)


def control_room(echo: EchoTui, *, columns: int = 120, rows: int = 36) -> Terminal:
    command = [str(PROGRAM), "--data-dir", str(echo.data_dir), "--delay", "0"]
    return Terminal(command, columns=columns, rows=rows, environment=echo.environment)


def holder(echo: EchoTui, name: str) -> int | None:
    """The pid of the process that holds this lock file."""
    found = lock_holder(echo.data_dir / "run" / f"{name}.lock")
    return found.pid if found else None


def agent_pids(echo: EchoTui) -> dict[str, int | None]:
    return {role: holder(echo, role) for role in DEFAULT_ROSTER}


def server_pids(echo: EchoTui) -> dict[str, int | None]:
    servers = EmbeddedServers(Settings.load(data_dir=echo.data_dir, environ={}))
    return {"postgresql": servers.postgres_pid(), "valkey": servers.valkey_pid()}


def kill(pid: int | None) -> None:
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def on_record(echo: EchoTui, statement: str) -> list[dict[str, Any]]:
    """What an outsider with psycopg finds where `status --json` points."""
    url = echo("status", "--json").json["database_url"]
    with psycopg.connect(url, row_factory=dict_row) as connection:
        return connection.execute(statement).fetchall()


async def healthy(room: Terminal, count: int = 6) -> None:
    """So many pane headers tell of an agent that is well."""
    await room.until(
        lambda: len(re.findall(r"\b[1-9] [●◐] ", room.screen_text())) == count, START_SECONDS, f"{count} agents are healthy"
    )


async def in_body(room: Terminal) -> None:
    """The cursor has arrived there: keys in flight would go to the field before."""
    await room.until(lambda: room.row_of_cursor().lstrip().startswith("Body"), 15, "the cursor is in the body")


async def compose(room: Terminal, subject: str, body: str = "") -> None:
    room.press("b")
    await room.wait_for(SUBJECT_HINT)
    room.type(subject)
    await room.wait_for(subject)
    if body:
        room.press("tab")
        await in_body(room)
        room.type(body)
        await room.wait_for(body)


async def ask(room: Terminal, subject: str, body: str = "") -> None:
    await compose(room, subject, body)
    room.press("ctrl+s")
    await room.until(lambda: re.search(rf"#\d+ {re.escape(subject)} [ (]", room.rows()[0]), 15, f"{subject!r} in the header")


async def waits_for_n(room: Terminal, phase: int) -> None:
    await room.until(
        lambda: any(f"▲ {phase} " in row and "press n" in row for row in room.rows()),
        START_SECONDS,
        f"phase {phase} is next",
    )


async def answers_keys(room: Terminal) -> None:
    room.press("?")
    await room.wait_for(HELP)
    room.press("escape")
    await room.wait_gone(HELP)


async def leave(room: Terminal, choice: str) -> int:
    room.press("q")
    await room.wait_for("Leave the control room?")
    room.press(choice)
    return await room.exit_code(START_SECONDS)


async def test_a_question_goes_through_six_phases_to_a_decision_on_record_and_stopping_leaves_nothing_running(
    data_dir: Path,
) -> None:
    echo = EchoTui(data_dir)
    try:
        with control_room(echo) as room:
            await room.wait_for("Phases")
            await room.wait_for("All 6 are", START_SECONDS)
            await healthy(room)
            await ask(
                room, "Shall we migrate billing to PostgreSQL 18?", "It takes two developers a month and costs 20,000."
            )
            for number in range(2, 7):
                await waits_for_n(room, number)
                room.press("n")
                await room.wait_for(f"✔ {number} ", START_SECONDS)
            await room.wait_for("d shows the whole")

            (decision,) = on_record(echo, "SELECT * FROM decisions")
            votes = on_record(echo, "SELECT * FROM decision_votes")
            phases = on_record(echo, "SELECT * FROM phases ORDER BY phase")
            assert decision["status"] in ("approved", "rejected")
            assert decision["outcome"]["summary"]
            assert decision["consensus_score"] is not None
            assert len(votes) == len(decision["participants"]) > 1
            assert [phase["state"] for phase in phases] == ["completed"] * 6
            assert decision["status"].capitalize() in room.screen_text()

            pids = [*agent_pids(echo).values(), *server_pids(echo).values(), holder(echo, "supervisor")]
            assert None not in pids
            with control_room(echo) as other:
                await healthy(other)
                assert await leave(room, "s") == 0
                await room.until(room.in_order, 5, "the terminal is as it was before")
                await other.wait_for("stopped from another place")
                assert holder(echo, "supervisor") is None, "the other room started everything again, unasked"
                other.press("q")
                assert await other.exit_code(START_SECONDS) == 0
        assert not processes_of(data_dir)
        assert set(agent_pids(echo).values()) | set(server_pids(echo).values()) == {None}
        assert holder(echo, "supervisor") is None
        assert holder(echo, "conductor") is None
    finally:
        end_all(data_dir)


async def test_leaving_lets_everything_run_and_the_next_control_room_shows_the_same_decision(running: EchoTui) -> None:
    with control_room(running) as room:
        await healthy(room)
        await ask(room, "Who comes back to this?")
        before = agent_pids(running)
        assert await leave(room, "l") == 0
        await room.until(room.in_order, 5, "the terminal is as it was before")
    with control_room(running) as room:
        await room.wait_for("Who comes back to this?", START_SECONDS)
        await healthy(room)
    assert agent_pids(running) == before
    assert None not in before.values()


async def test_what_one_control_room_sends_the_other_shows(running: EchoTui) -> None:
    with control_room(running) as one, control_room(running) as other:
        await healthy(one)
        await healthy(other)
        await ask(one, "Does the other one see this?")
        await other.wait_for("Does the other one see this?")
        await other.wait_for("press n")
        other.press("n")
        await one.wait_for("✔ 2 ")


async def test_a_control_room_killed_in_the_middle_loses_nothing(running: EchoTui) -> None:
    with control_room(running) as room:
        await healthy(room)
        await ask(room, "What does a crash cost?")
        room.send_signal(signal.SIGKILL)
        assert await room.exit_code() == -signal.SIGKILL
    with control_room(running) as room:
        await room.wait_for("What does a crash cost?", START_SECONDS)
        await room.wait_for("press n")
        room.press("n")
        await room.wait_for("✔ 2 ")


async def test_sigterm_ends_the_control_room_alone_and_leaves_the_terminal_in_order(running: EchoTui) -> None:
    before = agent_pids(running)
    with control_room(running) as room:
        await healthy(room)
        assert not room.in_order()
        room.send_signal(signal.SIGTERM)
        assert await room.exit_code() == 0
        await room.until(room.in_order, 5, "the terminal is as it was before")
    assert agent_pids(running) == before
    assert None not in {**before, **server_pids(running)}.values()


async def test_a_killed_agent_shows_as_crashed_and_comes_back_by_itself(running: EchoTui) -> None:
    with control_room(running) as room:
        await healthy(room)
        first = holder(running, "cto")
        kill(first)
        await room.wait_printed("  SIGKILL")  # in its header, until it starts again
        await room.wait_for("killed by SIGKILL, restart in")  # in its log, to stay
        await healthy(room)
        await room.wait_for("2 ● CTO")
    assert holder(running, "cto") not in (first, None)


async def test_a_killed_supervisor_is_followed_by_another_that_keeps_the_same_agents(running: EchoTui) -> None:
    with control_room(running) as room:
        await healthy(room)
        first, agents = holder(running, "supervisor"), agent_pids(running)
        kill(first)
        await room.until(lambda: holder(running, "supervisor") not in (first, None), 20, "another supervisor")
        await answers_keys(room)
        await healthy(room)
    status = running("status", "--json").json
    assert {agent["role"]: agent["pid"] for agent in status["agents"]} == agents
    assert {agent["state"] for agent in status["agents"]} <= {"healthy", "busy"}
    assert agent_pids(running) == agents


@pytest.mark.parametrize(("server", "light"), [("valkey", "redis"), ("postgresql", "postgres")])
async def test_a_killed_server_is_told_in_the_header_and_nothing_stands_still_until_it_is_back(
    running: EchoTui, server: str, light: str
) -> None:
    def kill_again() -> bool:
        """As often as it is started again, until the header tells: a moment's absence may not be worth a word."""
        if pid := server_pids(running)[server]:
            kill(pid)
        return f"✕ {light} down" in room.rows()[0]

    with control_room(running) as room:
        await healthy(room)
        agents = agent_pids(running)
        await room.until(kill_again, 20, f"the header tells that {light} is down")
        await answers_keys(room)
        await room.until(lambda: f"● {light}" in room.rows()[0], START_SECONDS, f"{light} is back")
        await ask(room, f"Is {light} back?")
        await room.wait_for("press n", START_SECONDS)
        await healthy(room)
    assert agent_pids(running) == agents


async def test_an_empty_subject_is_refused_beside_its_field_and_escape_keeps_the_draft(running: EchoTui) -> None:
    with control_room(running) as room:
        await healthy(room)
        before = on_record(running, "SELECT count(*) FROM messages WHERE from_role = 'operator'")
        room.press("b")
        await room.wait_for(SUBJECT_HINT)
        room.press("tab")
        await in_body(room)
        room.type("A body without a subject")
        await room.wait_for("A body without a subject")
        room.press("ctrl+s")
        row = await room.wait_for("a subject is needed")
        assert row.lstrip().startswith("Subject")
        room.press("escape")
        await room.wait_gone("A body without a subject")
        room.press("b")
        await room.wait_for("A body without a subject")
    assert on_record(running, "SELECT count(*) FROM messages WHERE from_role = 'operator'") == before


async def test_a_body_above_the_limit_is_refused_beside_its_field(running: EchoTui) -> None:
    line = "A line of the body, and many of them.\n"
    with control_room(running) as room:
        await healthy(room)
        before = on_record(running, "SELECT count(*) FROM messages WHERE from_role = 'operator'")
        await compose(room, "Is this too much?")
        room.press("tab")
        await in_body(room)
        room.paste(line * (BODY_BYTES // len(line) + 1))
        refusal = f"bytes; {BODY_BYTES:,} are possible"
        row = await room.wait_for(refusal, 20)
        assert row.lstrip().startswith("Body")
        room.press("ctrl+s")
        await answers_ctrl_s(room, refusal)
    assert on_record(running, "SELECT count(*) FROM messages WHERE from_role = 'operator'") == before


async def answers_ctrl_s(room: Terminal, refusal: str) -> None:
    """What was pressed before has been dealt with, and the composer still stands there with its refusal."""
    room.press("escape")
    await room.wait_gone(refusal)
    room.press("b")
    await room.wait_for("Is this too much?")
    await room.wait_for(refusal)


async def test_a_terminal_too_small_says_so_and_works_when_it_is_made_larger(running: EchoTui) -> None:
    with control_room(running, columns=40, rows=10) as room:
        await room.wait_for("40x10 is too small", START_SECONDS)
        room.press("b")
        room.resize(120, 36)
        await healthy(room)
        assert SUBJECT_HINT not in room.screen_text()
        await answers_keys(room)
        await room.wait_for("6 CEO synthesis")
        room.resize(80, 24)
        await room.wait_gone("6 CEO synthesis")  # the phases share one row
        await answers_keys(room)
