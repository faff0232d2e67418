"""The command line on an organisation that runs: real processes, real servers, no screen."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
import redis

from tests.support.command_line import SECONDS, EchoTui
from tests.support.eventually import eventually
from tests.support.processes import end_all, processes_of
from tests.support.servers import new_data_dir, remove_data_dir

ROSTER = "ceo,cto,chro"
QUESTION = "Should we migrate our billing database before the summer?"


@pytest.fixture(scope="module")
def echo_tui() -> Iterator[EchoTui]:
    """Three agents, brought up once by `echo-tui up` and ended by `echo-tui stop`."""
    place = new_data_dir()
    command = EchoTui(place, ("--delay", "0", "--roster", ROSTER))
    try:
        said = command("up")
        assert (said.code, said.out) == (0, "up: 3 agents\n"), said.err
        assert "can't be reached" not in said.err
        assert "down" not in said.err
        yield command
        stopped = command("stop")
        assert stopped.code == 0
        assert {"ceo", "cto", "chro", "conductor", "supervisor", "postgresql", "valkey"} <= set(
            stopped.out.removeprefix("stopped: ").strip().split(", ")
        )
        assert processes_of(place) == []
    finally:
        end_all(place)
        remove_data_dir(place)


@pytest.fixture(scope="module")
def decided(echo_tui: EchoTui) -> dict[str, Any]:
    """What `run --json` printed about one question, asked of the organisation that was already up."""
    said = echo_tui("run", "--subject", QUESTION, "--body", "It costs $40,000.", "--json")
    assert said.code == 0, said.err
    for phase in ("1 Startup", "2 Broadcast", "3 Self-selection", "4 Discussion", "5 Consensus", "6 CEO synthesis"):
        assert f"phase {phase}: completed after " in said.err
    value: dict[str, Any] = said.json
    return value


def test_run_prints_every_key_and_reaches_an_outcome(decided: dict[str, Any]) -> None:
    assert decided["status"] in ("approved", "rejected")
    assert decided["mode"] == "collaborative"
    assert 0 <= decided["consensus_score"] <= 1
    shapes = {
        "participants": {"role", "stance", "confidence", "source"},
        "votes": {"role", "vote", "confidence", "source"},
        "contributions": {"role", "round", "text", "source"},
        "phases": {"phase", "name", "state", "seconds"},
        "agents": {"role", "pid", "state"},
    }
    for key, names in shapes.items():
        assert decided[key], key
        assert all(names <= set(item) for item in decided[key]), key
    assert {"summary", "rationale", "actions", "dissent"} <= set(decided["outcome"])
    assert decided["outcome"]["summary"]
    assert [item["state"] for item in decided["phases"]] == ["completed"] * 6
    assert {item["round"] for item in decided["contributions"]} == {1, 2}
    assert {item["source"] for item in decided["votes"]} == {"rules"}
    assert decided["degraded"] == []
    assert {agent["role"] for agent in decided["agents"]} == {"ceo", "cto", "chro"}


def test_run_leaves_running_what_it_did_not_start(echo_tui: EchoTui, decided: dict[str, Any]) -> None:
    agents = {agent["role"]: agent["pid"] for agent in echo_tui("status", "--json").json["agents"]}
    assert agents == {agent["role"]: agent["pid"] for agent in decided["agents"]}
    assert all(psutil.pid_exists(pid) for pid in agents.values())


def test_the_urls_of_status_are_usable_as_they_stand(echo_tui: EchoTui) -> None:
    status = echo_tui("status", "--json").json
    with psycopg.connect(status["database_url"]) as postgres:
        assert postgres.execute("SELECT count(*) > 0 FROM roles").fetchone() == (True,)
    client = redis.Redis.from_url(status["redis_url"])
    assert client.ping()
    client.close()
    assert status["data_dir"] == str(echo_tui.data_dir)
    assert {"host", "reachable", "models"} == set(status["ollama"])
    assert psutil.pid_exists(status["supervisor"]["pid"])
    assert status["conductor"]["state"] == "healthy"
    assert all({"role", "instance", "pid", "state", "breaker", "heartbeat_age"} == set(agent) for agent in status["agents"])
    assert (set(status["deliveries"]), status["outbox"]) == ({"pending", "dead"}, 0)
    text = echo_tui("status").out
    assert status["database_url"] in text
    assert "cto" in text


async def test_an_outsider_s_plain_insert_reaches_every_agent_announced_or_not(echo_tui: EchoTui) -> None:
    status = echo_tui("status", "--json").json
    logs = {role: echo_tui.data_dir / "logs" / f"{role}.log" for role in ("ceo", "cto", "chro")}
    insert = (
        "INSERT INTO messages (from_role, to_role, type, subject, content)"
        " VALUES ('operator', 'all', 'notification', %s, '{\"body\": \"by hand\"}') RETURNING id"
    )
    with psycopg.connect(status["database_url"], autocommit=True) as postgres:
        (announced,) = postgres.execute(insert, ["Told on Redis"]).fetchone() or (0,)
        client = redis.Redis.from_url(status["redis_url"])
        client.publish("messages:all", json.dumps({"db_id": announced, "from": "operator", "subject": "Told on Redis"}))
        client.close()
        (silent,) = postgres.execute(insert, ["Told nobody"]).fetchone() or (0,)
    for number in (announced, silent):
        for role, log in logs.items():
            line = f"recv     #{number} notification from operator: Told"
            await eventually(lambda log=log, line=line: line in log.read_text(), timeout=30, what=f"{role}: {line}")

    async def handled() -> bool:
        listed = {message["id"]: message for message in echo_tui("messages", "--json").json}
        return all(
            sorted((owed["role"], owed["state"]) for owed in listed[number]["deliveries"])
            == [("ceo", "handled"), ("chro", "handled"), ("cto", "handled")]
            for number in (announced, silent)
        )

    await eventually(handled, timeout=30)


async def test_a_message_sent_to_one_role_is_answered_and_both_are_listed(echo_tui: EchoTui) -> None:
    body = "ü" * 100
    sent = echo_tui("send", "--to", "cto", "--subject", "Is the database safe?", "--body", "-", "--json", given=body).json
    assert (sent["held"], sent["recipients"]) == (False, ["cto"])

    async def answer() -> dict[str, Any] | None:
        listed = echo_tui("messages", "--from", "cto", "--json").json
        return next((message for message in listed if message["in_reply_to"] == sent["id"]), None)

    reply = await eventually(answer, timeout=30)
    assert (reply["from"], reply["to"], reply["type"]) == ("cto", "operator", "response")
    assert reply["content"]["body"]
    mine = [message for message in echo_tui("messages", "--to", "cto", "--json").json if message["id"] == sent["id"]]
    assert mine[0]["content"] == {"body": body}
    table = echo_tui("messages").out
    assert f"#{sent['id']}" in table
    assert "1 handled" in table


async def test_a_dead_letter_is_listed_with_its_error_and_delivered_when_it_is_retried(echo_tui: EchoTui) -> None:
    with psycopg.connect(echo_tui("status", "--json").json["database_url"]) as postgres:
        (number,) = postgres.execute(
            "INSERT INTO messages (from_role, to_role, type, subject) VALUES ('operator', 'cto', 'notification', 'Failed')"
            " RETURNING id"
        ).fetchone() or (0,)
        postgres.execute(
            "UPDATE deliveries SET state = 'dead', attempts = 5, error = 'ValueError: \x1b[31mno' WHERE message_id = %s",
            [number],
        )
    listed = echo_tui("messages", "--dead").out
    (error,) = [line for line in listed.splitlines() if "ValueError" in line]
    assert error.split(None, 3) == [f"#{number}", "cto", "5", "ValueError: \\x1b[31mno"]
    (letter,) = echo_tui("messages", "--dead", "--json").json
    assert (letter["id"], letter["deliveries"][0]["state"]) == (number, "dead")
    wrong = echo_tui("messages", "--retry", str(number + 1_000_000))
    assert (wrong.code, wrong.out, wrong.err.count("\n")) == (2, "", 1)
    assert echo_tui("messages", "--retry", f"#{number}").out == f"#{number} to cto: to be delivered again\n"
    assert echo_tui("messages", "--dead").out == "no dead letters\n"
    assert echo_tui("messages", "--retry", "all").out == "no dead letters\n"

    async def handled() -> bool:
        (message,) = [one for one in echo_tui("messages", "--to", "cto", "--json").json if one["id"] == number]
        return [owed["state"] for owed in message["deliveries"]] == ["handled"]

    await eventually(handled, timeout=30)


HOSTILE = "\x1b[31mred [bold]x[/] \u202eevil a\u200bb e" + "\u0301" * 200
INERT = "\\x1b[31mred [bold]x[/] \\u202eevil a\\u200bb e"


async def test_hostile_text_goes_on_record_as_it_is_and_is_shown_inert_by_every_command(echo_tui: EchoTui) -> None:
    sent = echo_tui("send", "--to", "all", "--subject", HOSTILE, "--body", HOSTILE, "--json")
    assert sent.code == 0, sent.err
    identity, number = sent.json["decision_id"], sent.json["id"]
    log = echo_tui.data_dir / "logs" / "cto.log"
    await eventually(lambda: f"recv     #{number} " in log.read_text(), timeout=30)
    assert echo_tui("run", "--resume", identity).code in (0, 3)
    shown = {command: echo_tui(*command).out for command in (("messages",), ("decisions",), ("logs", "-n", "5000"))}
    for command, text in shown.items():
        assert INERT in text, command
    shown["export",] = echo_tui("export", identity).out
    assert "\\x1b" in shown["export",].replace("\\\\", "\\")
    for command in (("messages", "--json"), ("export", identity, "--format", "json")):
        shown[command] = echo_tui(*command).out
        assert json.dumps(HOSTILE)[1:-1] in shown[command], command
    for command, text in shown.items():
        assert not any(alive in text for alive in ("\x1b", "\u202e", "\u200b", "\u0301" * 20)), command


@pytest.mark.parametrize("text", ["nul \x00", "half \udcff"])  # the second: a byte on the command line that is not UTF-8
def test_text_that_no_database_takes_is_refused_in_one_line(echo_tui: EchoTui, text: str) -> None:
    if "\x00" in text:  # the system takes none as an argument, so it can come on standard input alone
        said = echo_tui("send", "--to", "cto", "--subject", "x", "--body", "-", given=text)
    else:
        said = echo_tui("send", "--to", "cto", "--subject", "x", "--body", text)
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert "nothing was sent" in said.err
    assert "Traceback" not in said.err


def test_an_unknown_sender_is_refused_by_the_running_organisation_too(echo_tui: EchoTui) -> None:
    said = echo_tui("send", "--to", "juggler", "--subject", "x")
    assert (said.code, said.out, said.err.count("\n")) == (2, "", 1)


def test_a_decision_is_listed_and_exported_as_markdown_and_json(
    echo_tui: EchoTui, decided: dict[str, Any], tmp_path: Path
) -> None:
    (row,) = [row for row in echo_tui("decisions", "--json").json if row["id"] == decided["decision_id"]]
    assert (row["subject"], row["status"]) == (QUESTION, decided["status"])
    exported = echo_tui("export", decided["decision_id"], "--format", "json").json
    same = ("decision_id", "status", "participants", "votes", "contributions", "outcome", "phases")
    assert {key: exported[key] for key in same} == {key: decided[key] for key in same}
    text = echo_tui("export", decided["decision_id"][:8]).out
    assert text.startswith(f"# {QUESTION}\n")
    for heading in ("## Why", "## Actions", "## Positions", "## Votes", "## How it was made"):
        assert heading in text
    file = tmp_path / "minutes.md"
    assert echo_tui("export", f"#{row['number']}", "--output", str(file)).code == 0
    assert file.read_text() == text


@pytest.mark.parametrize(
    "command", [("export", "nonsense"), ("run", "--resume", "nonsense"), ("messages", "--decision", "no")]
)
def test_a_decision_nobody_knows_is_one_line_and_changes_nothing(echo_tui: EchoTui, command: tuple[str, ...]) -> None:
    said = echo_tui(*command)
    assert said.code == 2
    assert "no decision" in said.err.splitlines()[-1]
    assert "`echo-tui decisions` lists them" in said.err.splitlines()[-1]
    assert "Traceback" not in said.err


def test_resume_follows_a_decision_that_is_over_to_what_it_became(echo_tui: EchoTui, decided: dict[str, Any]) -> None:
    said = echo_tui("run", "--resume", decided["decision_id"], "--json")
    assert said.code == 0
    assert said.json["votes"] == decided["votes"]


def test_out_of_time_is_code_four_and_resume_goes_on_to_an_escalation_which_is_code_three(echo_tui: EchoTui) -> None:
    late = echo_tui("run", "--subject", "Hire a poet?", "--mode", "human", "--timeout", "0.001", "--json")
    assert late.code == 4, late.err
    assert "out of time after 0.001 s; `echo-tui run --resume " in late.err
    assert late.json["status"] in ("pending", "escalated")
    said = echo_tui("run", "--resume", late.json["decision_id"], "--json")
    assert (said.code, said.json["status"]) == (3, "escalated")
    assert "phase 6 CEO synthesis: waiting for the operator (a person decides in this mode)" in said.err
    assert "nothing is decided yet" in echo_tui("export", late.json["decision_id"]).out


def test_logs_show_what_each_process_did_in_order(echo_tui: EchoTui, decided: dict[str, Any]) -> None:
    text = echo_tui("logs", "-n", "5000").out
    for said in ("handler started", "recv     #", "judge    ", "vote     ", "conducting"):
        assert said in text
    only = echo_tui("logs", "cto", "-n", "50").out.splitlines()
    assert only
    assert all(line.split()[1] == "cto" for line in only)


def test_doctor_finds_a_running_organisation_well(echo_tui: EchoTui) -> None:
    said = echo_tui("doctor", "--json")
    assert said.code == 0
    found = {item["check"]: item["result"] for item in said.json}
    assert {found[name] for name in ("postgresql", "redis", "schema", "supervisor", "organisation")} == {"ok"}


def test_up_again_finds_everything_up(echo_tui: EchoTui) -> None:
    before = echo_tui("status", "--json").json
    assert echo_tui("up").code == 0
    after = echo_tui("status", "--json").json
    assert [agent["pid"] for agent in after["agents"]] == [agent["pid"] for agent in before["agents"]]
    assert after["supervisor"] == before["supervisor"]


@pytest.mark.parametrize(("number", "moment"), [(signal.SIGINT, "postgresql: up"), (signal.SIGTERM, "phase 3")])
def test_a_run_that_is_interrupted_leaves_no_process(number: signal.Signals, moment: str) -> None:
    place = new_data_dir()
    try:
        command = EchoTui(place, ("--delay", "0", "--roster", "ceo,cto"))
        running = command.start("run", "--subject", QUESTION, "--mode", "human")
        assert running.stderr is not None
        said = []
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline and (line := running.stderr.readline()):
            said.append(line)
            if line.startswith(moment):
                break
        running.send_signal(number)
        _, rest = running.communicate(timeout=SECONDS)
        assert said[-1].startswith(moment), said
        assert running.returncode in (128 + number, 3), rest
        assert "Traceback" not in rest
        assert processes_of(place) == []
    finally:
        end_all(place)
        remove_data_dir(place)


def test_a_message_to_a_role_that_nobody_plays_is_stored_and_said_to_wait(echo_tui: EchoTui) -> None:
    said = echo_tui("send", "--to", "test_lead", "--type", "notification", "--subject", "Are you there?")
    assert said.code == 0
    assert "nobody plays test_lead now: it waits until somebody does" in said.err


def test_messages_to_a_role_that_does_not_exist_are_not_said_to_be_none(echo_tui: EchoTui) -> None:
    said = echo_tui("messages", "--to", "bogus")
    assert (said.code, said.out) == (2, "")
    assert "no role 'bogus'" in said.err
