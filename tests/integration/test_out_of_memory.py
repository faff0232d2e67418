"""An agent that the kernel ends for want of memory is told apart from one that somebody killed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from echo_core.health.memory import ended_for_memory, out_of_memory_kills
from echo_core.logs import Log
from echo_core.organisation import Organisation
from echo_core.settings import Settings
from echo_core.snapshot import AgentView
from echo_core.supervisor.client import SupervisorClient
from echo_core.supervisor.control import socket_path
from echo_core.supervisor.process import Supervisor
from tests.support.eventually import eventually
from tests.support.processes import end_all

LIMIT_BYTES = 65_536  # beyond what it has: the next page it needs is one too many

_MUCH_TO_READ = """
INSERT INTO messages (from_role, to_role, type, subject, content)
SELECT 'operator', 'cto', 'notification', 'Long', jsonb_build_object('body', repeat('much ', 12000))
FROM generate_series(1, 300)
"""


@pytest.fixture
def narrow() -> Iterator[Path]:
    """A control group of the kernel with next to no memory; skipped where we may not make one."""
    for root, limit in (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
        (Path("/sys/fs/cgroup"), "memory.max"),
    ):
        folder = root / f"echo-test-{os.getpid()}"
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            if (folder / limit).exists():
                (folder / limit).write_text(str(LIMIT_BYTES))
                with suppress(OSError):  # swapping instead of ending is no answer here
                    (folder / "memory.swap.max").write_text("0")
                yield folder
                return
        except OSError:
            continue
        finally:
            with suppress(OSError):
                folder.rmdir()
    pytest.skip("no control group with a memory limit can be made here")


async def test_an_agent_the_kernel_ended_for_memory_says_out_of_memory(
    settings: Settings, organisation: Organisation, narrow: Path
) -> None:
    settings = replace(settings, roster=("cto",))
    supervisor = Supervisor(settings, organisation, Log(settings.logs_dir / "supervisor.log"))
    running = asyncio.create_task(supervisor.run())
    client = SupervisorClient(settings)

    async def cto() -> AgentView | None:
        return next((view for view in (await client.status()).agents if view.role == "cto"), None)

    async def at_work() -> int | None:
        view = await cto()
        return view.pid if view is not None and view.state in ("healthy", "busy") else None

    log = settings.logs_dir / "supervisor.log"
    before = out_of_memory_kills()
    try:
        await eventually(socket_path(settings.run_dir).exists)
        pid = await eventually(at_work, timeout=30)
        (narrow / "cgroup.procs").write_text(str(pid))
        async with await psycopg.AsyncConnection.connect(settings.database_url, autocommit=True) as connection:
            await connection.execute(_MUCH_TO_READ)
        await eventually(lambda: "killed by SIGKILL (out of memory)" in log.read_text(), timeout=60)
        assert out_of_memory_kills() > before
        assert ended_for_memory(pid or 0)
        assert ended_for_memory(os.getpid()) is False
        # And one that is simply killed is not said to be so.
        again = await eventually(at_work, timeout=30)
        os.kill(again or 0, 9)
        await eventually(lambda: "cto: killed by SIGKILL; restart" in log.read_text(), timeout=30)
    finally:
        supervisor.request_shutdown()
        await running
        end_all(settings.data_dir)
