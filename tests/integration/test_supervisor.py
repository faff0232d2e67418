"""The supervisor with real agents: launched in order, started again, given up, adopted, and ended without a trace."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from echo_core.errors import EchoError, SupervisorUnavailable
from echo_core.logs import Log
from echo_core.organisation import Organisation
from echo_core.settings import Settings
from echo_core.snapshot import AgentView, Snapshot
from echo_core.storage.database import Database
from echo_core.supervisor.child import RestartPolicy
from echo_core.supervisor.client import SupervisorClient, snapshot_from
from echo_core.supervisor.control import LINE_BYTES, socket_path
from echo_core.supervisor.process import Supervisor
from tests.support.eventually import eventually
from tests.support.processes import end_all, processes_of

QUICK = RestartPolicy(first_seconds=0.1, factor=1.0, maximum_seconds=0.1, crashes=3)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return replace(settings, roster=("ceo", "cto"))


@pytest.fixture(autouse=True)
def nothing_left(data_dir: Path) -> Any:
    yield
    left = processes_of(data_dir)
    end_all(data_dir)
    assert left == []


@asynccontextmanager
async def supervising(
    settings: Settings, organisation: Organisation, policy: RestartPolicy | None = None
) -> AsyncIterator[SupervisorClient]:
    """A supervisor inside the test, so that its policy can be chosen; its processes are real."""
    log = Log(settings.logs_dir / "supervisor.log")
    supervisor = Supervisor(settings, organisation, log, policy=policy)
    running = asyncio.create_task(supervisor.run())
    client = SupervisorClient(settings)
    try:
        await eventually(socket_path(settings.run_dir).exists)
        yield client
    finally:
        supervisor.request_shutdown()
        await running


async def seen(client: SupervisorClient, check: Callable[[Snapshot], object], what: str) -> Snapshot:
    async def look() -> Snapshot | None:
        snapshot = await client.status()
        return snapshot if check(snapshot) else None

    return await eventually(look, timeout=20, what=what)  # type: ignore[return-value]


def agent(snapshot: Snapshot, name: str) -> AgentView:
    return next(view for view in snapshot.agents if view.name == name)


def healthy(*names: str) -> Callable[[Snapshot], bool]:
    return lambda snapshot: {view.name for view in snapshot.agents if view.state == "healthy"} >= set(names)


def state(name: str, value: str) -> Callable[[Snapshot], bool]:
    return lambda snapshot: agent(snapshot, name).state == value


async def timeline(settings: Settings, kind: str) -> list[tuple[str | None, str]]:
    database = Database(settings.database_url, name="test")
    try:
        async with database.session() as connection:
            rows = await (
                await connection.execute("SELECT role, payload FROM events WHERE kind = %s ORDER BY id", [kind])
            ).fetchall()
        return [(row["role"], row["payload"]["what"]) for row in rows]
    finally:
        await database.close()


async def test_agents_are_launched_one_after_another_and_every_step_is_seen(
    settings: Settings, organisation: Organisation
) -> None:
    patient = replace(settings, roster=("ceo", "cto", "chro"), delay_seconds=0.6)
    async with supervising(patient, organisation) as client:
        waiting: list[tuple[str, ...]] = []
        countdowns: list[float] = []
        async for snapshot in client.snapshots(restart=False):
            pending = snapshot.launch.pending
            if not waiting or waiting[-1] != pending:
                waiting.append(pending)
            if snapshot.launch.next_in is not None:
                countdowns.append(snapshot.launch.next_in)
                assert agent(snapshot, pending[0]).state == "starting"
                assert agent(snapshot, pending[0]).pid is None
            if healthy("ceo", "cto", "chro")(snapshot):
                break
        assert [names for names in waiting if names] in (
            [("ceo", "cto", "chro"), ("cto", "chro"), ("chro",)],
            [("cto", "chro"), ("chro",)],
        )
        assert countdowns
        assert all(0 <= countdown <= 0.6 for countdown in countdowns)
        started = await eventually(lambda: all_started(patient, 4))
        assert [role for role, what in started if what == "started"] == ["conductor", "ceo", "cto", "chro"]


async def all_started(settings: Settings, count: int) -> list[tuple[str | None, str]] | None:
    found = await timeline(settings, "process")
    return found if len(found) >= count else None


async def test_an_agent_that_is_killed_is_named_so_and_comes_back(settings: Settings, organisation: Organisation) -> None:
    async with supervising(settings, organisation) as client:
        before = agent(await seen(client, healthy("ceo", "cto"), "both up"), "cto")
        assert before.pid is not None
        os.kill(before.pid, signal.SIGKILL)
        crashed = agent(await seen(client, state("cto", "crashed"), "the crash"), "cto")
        assert (crashed.exit, crashed.crashes, crashed.pid, crashed.breaker) == ("killed by SIGKILL", 1, None, "open")
        assert crashed.restart_in is not None
        after = agent(await seen(client, healthy("ceo", "cto"), "both up again"), "cto")
        assert after.pid not in (None, before.pid)
        assert after.exit == ""
        await eventually(lambda: all_started(settings, 5))
        assert ("cto", "crashed") in await timeline(settings, "process")


async def test_one_that_crashes_too_often_is_given_up_until_a_person_starts_it(
    settings: Settings, organisation: Organisation
) -> None:
    async with supervising(settings, organisation, QUICK) as client:
        await seen(client, healthy("ceo", "cto"), "both up")
        killed: set[int] = set()

        def kill_it(snapshot: Snapshot) -> bool:
            view = agent(snapshot, "cto")
            if view.pid is not None and view.pid not in killed:
                killed.add(view.pid)
                os.kill(view.pid, signal.SIGKILL)
            return view.state == "gave up"

        snapshot = await seen(client, kill_it, "giving up")
        given_up = agent(snapshot, "cto")
        assert (len(killed), given_up.crashes, given_up.restart_in) == (3, 3, None)
        assert "CTO crashed too often and was given up" in snapshot.notice
        await client.command("restart", role="cto")
        again = await seen(client, healthy("ceo", "cto"), "both up again")
        assert (agent(again, "cto").crashes, again.notice) == (0, "")


async def test_a_stopped_agent_stays_stopped_until_it_is_started_also_between_a_crash_and_its_restart(
    settings: Settings, organisation: Organisation
) -> None:
    slow = RestartPolicy(first_seconds=60, maximum_seconds=60)
    async with supervising(settings, organisation, slow) as client:
        up = agent(await seen(client, healthy("ceo", "cto"), "both up"), "cto")
        await client.command("stop", role="cto")
        stopped = agent(await seen(client, state("cto", "stopped"), "the stop"), "cto")
        assert (stopped.pid, stopped.crashes) == (None, 0)
        await client.command("start", role="cto")
        started = agent(await seen(client, healthy("cto"), "the start"), "cto")
        assert started.pid not in (None, up.pid)
        with pytest.raises(EchoError, match="cto already runs as pid"):
            await client.command("start", role="cto")
        assert started.pid is not None
        os.kill(started.pid, signal.SIGKILL)
        assert agent(await seen(client, state("cto", "crashed"), "the crash"), "cto").restart_in is not None
        await client.command("stop", role="cto")
        held = agent(await client.status(), "cto")
        assert (held.state, held.restart_in) == ("stopped", None)
        await client.command("restart", role="cto")
        await seen(client, healthy("ceo", "cto"), "both up")
        said = [what for role, what in await timeline(settings, "operator") if role == "cto"]
        assert said == ["stop", "start", "stop", "restart"]


async def test_one_whose_turn_has_not_come_can_be_held_back(settings: Settings, organisation: Organisation) -> None:
    async with supervising(replace(settings, delay_seconds=60), organisation) as client:
        await seen(client, lambda snapshot: snapshot.launch.pending == ("cto",), "the wait for the second")
        await client.command("stop", role="cto")
        snapshot = await client.status()
        assert (snapshot.launch.pending, agent(snapshot, "cto").state) == ((), "stopped")
        await client.command("start", role="cto")
        await seen(client, healthy("cto"), "the start by hand")


async def test_an_instance_more_is_an_agent_of_its_own(settings: Settings, organisation: Organisation) -> None:
    async with supervising(replace(settings, roster=("cto",)), organisation) as client:
        assert (await client.command("add", role="cto"))["instance"] == 2
        snapshot = await seen(client, healthy("cto", "cto-2"), "two of them")
        assert agent(snapshot, "cto").pid != agent(snapshot, "cto-2").pid
        assert [view.title for view in snapshot.agents] == ["CTO", "CTO 2"]


async def test_a_killed_conductor_is_started_again(settings: Settings, organisation: Organisation) -> None:
    async with supervising(replace(settings, roster=()), organisation, QUICK) as client:
        first = (await seen(client, lambda s: s.conductor_state == "healthy", "the conductor")).conductor_pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        second = await seen(
            client, lambda s: s.conductor_state == "healthy" and s.conductor_pid not in (None, first), "another conductor"
        )
        assert second.conductor_pid != first
        assert ("conductor", "crashed") in await timeline(settings, "process")


async def test_after_the_supervisor_is_killed_the_next_client_s_one_adopts_what_runs(settings: Settings) -> None:
    client = SupervisorClient(settings)
    await client.connect()
    assert client.started
    before = await seen(client, lambda s: healthy("ceo", "cto")(s) and s.conductor_state == "healthy", "all up")
    os.kill(before.supervisor_pid, signal.SIGKILL)
    other = SupervisorClient(settings)
    await eventually(lambda: unreachable(other))
    await other.connect()
    after = await seen(other, healthy("ceo", "cto"), "all adopted")
    assert after.supervisor_pid != before.supervisor_pid
    assert after.conductor_pid == before.conductor_pid
    assert {view.name: view.pid for view in after.agents} == {view.name: view.pid for view in before.agents}
    adopted = [role for role, what in await timeline(settings, "process") if what == "adopted"]
    assert sorted(role or "" for role in adopted) == ["ceo", "conductor", "cto"]
    for child in (client, other):
        await child.end_started(20)
    await eventually(lambda: processes_of(settings.data_dir) == [])


async def unreachable(client: SupervisorClient) -> bool:
    try:
        await client.connect(start=False)
    except SupervisorUnavailable:
        return True
    return False


async def test_a_data_directory_has_one_supervisor(settings: Settings, organisation: Organisation) -> None:
    one, two = SupervisorClient(settings), SupervisorClient(settings)
    await asyncio.gather(one.connect(), two.connect())
    assert sorted([one.started, two.started]) == [False, True]
    assert (await one.status()).supervisor_pid == (await two.status()).supervisor_pid
    third = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "echo_core.supervisor",
        env={**os.environ, **settings.environment()},
        stderr=subprocess.PIPE,
    )
    _, said = await third.communicate()
    assert third.returncode == 75
    assert said.decode().count("\n") == 1
    assert "already runs" in said.decode()
    await one.command("shutdown")
    await eventually(lambda: processes_of(settings.data_dir) == [])
    for client in (one, two):
        await client.end_started(5)


async def test_the_control_socket_is_private_and_answers_nonsense_with_a_line(
    settings: Settings, organisation: Organisation
) -> None:
    async with supervising(replace(settings, roster=("cto",)), organisation) as client:
        path = socket_path(settings.run_dir)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        before = agent(await seen(client, healthy("cto"), "the agent"), "cto")
        reader, writer = await asyncio.open_unix_connection(str(path), limit=1 << 22)
        for line in (
            b"",
            b"garbage",
            b"[]",
            b"null",
            b"[" * 30_000,
            b"\xff\xfe",
            b'{"op": "dance"}',
            b'{"op": ["status"]}',
            b'{"op": "stop"}',
            b'{"op": "stop", "role": []}',
            b'{"op": "stop", "role": "juggler"}',
            b'{"op": "stop", "role": "cto", "instance": 7}',
            b'{"op": "start", "role": "cto", "instance": "x"}',
            b'{"op": "start", "role": "cto", "instance": 100000}',
            b'{"op": "launch", "delay": "soon"}',
            b'{"op": "launch", "roster": ["ceo", "juggler"]}',
            b'{"op": "stop", "role": "cto", "unknown": 1}',
        ):
            writer.write(line + b"\n")
            answer = json.loads(await asyncio.wait_for(reader.readline(), 10))
            assert answer["ok"] is False, line
            assert answer["error"], line
            assert "\n" not in answer["error"]
        writer.write(b'{"op": "status", "id": 7}\n')
        answer = json.loads(await reader.readline())
        assert (answer["ok"], answer["id"]) == (True, 7)
        assert [view.name for view in snapshot_from(answer).agents] == ["cto"]
        writer.write(b"x" * (LINE_BYTES + 10) + b"\n")
        assert b"at most" in await reader.readline()
        writer.close()
        after = agent(await client.status(), "cto")
        assert (after.pid, after.state) == (before.pid, "healthy")


async def test_embedded_servers_that_die_come_back_and_the_lights_tell(data_dir: Path, organisation: Organisation) -> None:
    settings = replace(Settings.load(data_dir=data_dir, roster="cto", delay=0, environ={}), llm="off")
    settings.prepare()
    async with supervising(settings, organisation) as client:
        lights: set[tuple[str, str, str]] = set()

        def look(snapshot: Snapshot) -> bool:
            lights.update((light.name, light.state, snapshot.notice) for light in snapshot.dependencies)
            return healthy("cto")(snapshot)

        snapshot = await seen(client, look, "all up")
        assert {state for name, state, _ in lights if name in ("postgresql", "redis")} <= {"starting", "up"}
        assert {notice for _, _, notice in lights} == {""}
        database = Database(snapshot.database_url, name="test")
        for name, program in (("postgresql", "postgres"), ("redis", "valkey")):
            (pid,) = [p.pid for p in processes_of(data_dir) if program in p.name() and p.ppid() == os.getpid()]
            os.kill(pid, signal.SIGKILL)

            def back(now: Snapshot, light: str = name, gone: int = pid, program: str = program) -> bool:
                pids = [p.pid for p in processes_of(data_dir) if program in p.name() and p.ppid() == os.getpid()]
                up = {view.name for view in now.dependencies if view.state == "up"}
                return bool(pids) and gone not in pids and light in up

            await seen(client, back, f"{name} back")

        async def told() -> bool:
            try:
                rows = await database.fetch_all("agent_statuses")
            except EchoError:
                return False
            return [row["role"] for row in rows] == ["cto"]

        async def recorded() -> bool:
            found = await timeline(replace(settings, database_url=snapshot.database_url), "process")
            return [what for role, what in found if role is None] == ["server died", "server is back"] * 2

        await eventually(told, timeout=20)
        await eventually(recorded, what="each death and each return once on the timeline")
        await database.close()
