"""One kept process: started, found again, restarted ever more slowly, and ended in time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from echo_core.agents.lockfile import start_ticks
from echo_core.supervisor.child import Child, ProcessId, RestartPolicy, lock_holder
from tests.support.eventually import eventually

LOCKED = (
    "import sys, time; from pathlib import Path; from echo_core.agents.lockfile import LockFile;"
    " LockFile(Path(sys.argv[1])).take('it'); print('up', file=sys.stderr, flush=True); time.sleep(60)"
)
DEAF = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    " print('up', file=sys.stderr, flush=True); time.sleep(60)"
)


@pytest.fixture
def children(tmp_path: Path) -> Iterator[list[Child]]:
    made: list[Child] = []
    yield made
    for child in made:
        if child.pid is not None and psutil.pid_exists(child.pid):
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0) if child._process is not None else None


def child(children: list[Child], folder: Path, code: str, policy: RestartPolicy | None = None) -> Child:
    command = [sys.executable, "-c", code, str(folder / "it.lock")]
    made = Child("it", command, dict(os.environ), folder, folder / "it.log", policy or RestartPolicy())
    children.append(made)
    return made


def up(folder: Path) -> bool:
    return "up" in (folder / "it.log").read_text()


async def test_one_that_ignores_sigterm_is_killed_after_its_grace(children: list[Child], tmp_path: Path) -> None:
    deaf = child(children, tmp_path, DEAF)
    deaf.start()
    await eventually(lambda: up(tmp_path))
    await deaf.stop(0.2)
    assert await eventually(deaf.ended) == (True, -signal.SIGKILL)
    assert not deaf.running


async def test_one_that_is_frozen_still_hears_that_it_shall_stop(children: list[Child], tmp_path: Path) -> None:
    frozen = child(children, tmp_path, "import sys, time; print('up', file=sys.stderr, flush=True); time.sleep(60)")
    frozen.start()
    await eventually(lambda: up(tmp_path))
    assert frozen.pid is not None
    os.kill(frozen.pid, signal.SIGSTOP)
    await frozen.stop(5.0)
    assert frozen.ended() == (True, -signal.SIGTERM)


async def test_restarts_wait_longer_each_time_until_it_is_given_up(children: list[Child], tmp_path: Path) -> None:
    policy = RestartPolicy(first_seconds=1.0, factor=2.0, maximum_seconds=3.0, crashes=5)
    broken = child(children, tmp_path, "raise SystemExit(3)", policy)
    waits = []
    for _ in range(4):
        broken.start()
        await eventually(lambda: not broken.running or broken.ended()[0])
        broken.crashed()
        assert broken.restart_in is not None
        waits.append(broken.restart_in)
    assert waits == pytest.approx([1.0, 2.0, 3.0, 3.0], abs=0.2)
    assert not broken.gave_up
    broken.crashed()
    assert (broken.gave_up, broken.restart_in, broken.crashes) == (True, None, 5)
    broken.forgive()
    assert (broken.gave_up, broken.crashes) == (False, 0)


async def test_what_an_earlier_supervisor_started_is_adopted_and_its_end_noticed(
    children: list[Child], tmp_path: Path
) -> None:
    first = child(children, tmp_path, LOCKED)
    first.start()
    await eventually(lambda: up(tmp_path))
    second = child(children, tmp_path, LOCKED)
    assert second.adopt()
    assert second.pid == first.pid
    assert second.ended() == (False, None)
    await second.stop(5.0)
    assert second.ended() == (True, None)
    assert first.ended() == (True, -signal.SIGTERM)


async def test_a_start_that_meets_a_running_one_becomes_that_one(children: list[Child], tmp_path: Path) -> None:
    first = child(children, tmp_path, LOCKED)
    first.start()
    await eventually(lambda: up(tmp_path))
    second = child(children, tmp_path, "raise SystemExit(75)")
    second.start()
    await eventually(lambda: second.ended() == (False, None) and second.pid == first.pid)
    assert second.running
    second._id = None  # so that it is ended once, by the first


def test_a_pid_in_a_lock_file_is_believed_only_while_its_process_holds_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "it.lock"
    us = f'{{"pid": {os.getpid()}, "start_ticks": {start_ticks(os.getpid())}}}'
    lock.write_text(us)
    assert lock_holder(lock) is None, "nobody holds it"
    holder = subprocess.Popen([sys.executable, "-c", LOCKED, str(lock)], stderr=subprocess.PIPE)
    try:
        assert holder.stderr is not None
        holder.stderr.readline()
        assert lock_holder(lock) == ProcessId(holder.pid, start_ticks(holder.pid))
        for written in (f'{{"pid": {os.getpid()}, "start_ticks": 1}}', "garbage", "{}", '{"pid": "x", "start_ticks": []}'):
            lock.write_text(written)
            assert lock_holder(lock) is None, written
    finally:
        holder.kill()
        holder.communicate()
