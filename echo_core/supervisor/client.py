"""How a control room or a command talks to the supervisor of its data directory, and starts it when none runs."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from echo_core.errors import EchoError, OrganisationStopped, SupervisorUnavailable
from echo_core.settings import Settings
from echo_core.snapshot import AgentView, DependencyView, LaunchView, Snapshot
from echo_core.supervisor.control import socket_path

START_SECONDS = 15.0  # a supervisor opens its socket before anything slow
ANSWER_SECONDS = 60.0  # stopping everything may use up the grace of every process
LINE_BYTES = 4 * 1024 * 1024


class SupervisorClient:
    """One connection for commands. `no_agents`: a supervisor started by this client launches servers and conductor only."""

    def __init__(self, settings: Settings, *, no_agents: bool = False) -> None:
        self.settings = settings
        self.started = False  # whether this client started the supervisor
        self._no_agents = no_agents
        self._process: subprocess.Popen[bytes] | None = None

    async def connect(self, start: bool = True) -> None:
        """Make sure that a supervisor answers. Raises SupervisorUnavailable, or EchoError with why it could not start."""
        if self._process is not None:
            self._process.poll()  # reaps it, should it have died: no zombie stays
        if await self._answers():
            return
        if not start:
            raise SupervisorUnavailable()
        await self._spawn()

    @property
    def starting(self) -> bool:
        """A supervisor of this client's runs, and it is not known yet whether it is the one of the data directory."""
        return self._process is not None and not self.started and self._process.poll() is None

    async def end_started(self, seconds: float) -> None:
        """End the supervisor that this client started, also one that does not answer yet, with all it keeps."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(process.wait, seconds)

    async def status(self) -> Snapshot:
        return snapshot_from(await self.command("status"))

    async def command(self, op: str, **arguments: Any) -> dict[str, Any]:
        """Raises EchoError with the supervisor's own line, SupervisorUnavailable when none runs."""
        try:
            reader, writer = await self._open()
            try:
                writer.write(json.dumps({"op": op, **arguments}).encode() + b"\n")
                await writer.drain()
                line = await asyncio.wait_for(reader.readline(), ANSWER_SECONDS)
            finally:
                writer.close()
        except TimeoutError as error:
            raise EchoError(
                f"the supervisor did not answer within {ANSWER_SECONDS:g} s; see its log supervisor.log"
            ) from error
        except OSError as error:
            raise SupervisorUnavailable() from error
        if not line:
            raise SupervisorUnavailable("the supervisor ended while it was asked; `echo-tui up` starts another")
        answer: dict[str, Any] = json.loads(line)
        if not answer.get("ok"):
            raise EchoError(str(answer.get("error") or "the supervisor refused"))
        return answer

    async def snapshots(self, *, restart: bool = True) -> AsyncIterator[Snapshot]:
        """Every change, and at least one a second. When the supervisor dies, another is started, unless told not to.

        Raises OrganisationStopped when it ended because somebody stopped everything.
        """
        stopping = False
        while True:
            try:
                await self.connect(start=restart)
                reader, writer = await self._open()
            except (OSError, SupervisorUnavailable):
                if not restart:
                    return
                await asyncio.sleep(0.5)
                continue
            try:
                writer.write(b'{"op": "subscribe"}\n')
                while line := await reader.readline():
                    snapshot = snapshot_from(json.loads(line))
                    stopping = snapshot.stopping
                    yield snapshot
            except (ConnectionError, ValueError):
                # Lost in the middle of a line: the next connection begins with a whole snapshot.
                await asyncio.sleep(0.1)
            finally:
                writer.close()
            if stopping:
                raise OrganisationStopped()
            if not restart:
                return

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(str(socket_path(self.settings.run_dir)), limit=LINE_BYTES)

    async def _answers(self) -> bool:
        try:
            await asyncio.wait_for(self.command("status"), 5.0)
        except SupervisorUnavailable:
            return False
        except TimeoutError as error:
            raise EchoError("the supervisor runs but does not answer; end it with `kill`, then try again") from error
        return True

    async def _spawn(self) -> None:
        """Detached, in a session of its own: it outlives this process and its terminal."""
        settings = self.settings
        settings.prepare()
        arguments = [sys.executable, "-m", "echo_core.supervisor"]
        arguments += ["--roster", ",".join(settings.roster), "--delay", str(settings.delay_seconds)]
        arguments += ["--no-agents"] if self._no_agents else []
        log = settings.logs_dir / "supervisor.log"
        try:
            with log.open("ab") as errors:
                said_from = errors.tell()
                self._process = subprocess.Popen(  # noqa: ASYNC220 - starting takes a millisecond
                    arguments,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    env={**os.environ, **settings.environment()},
                    start_new_session=True,
                )
        except OSError as error:
            raise EchoError(f"the supervisor could not be started: {error.strerror}") from error
        loop = asyncio.get_running_loop()
        deadline = loop.time() + START_SECONDS
        while loop.time() < deadline:
            if await self._answers():
                # Two clients may have started one each: the one that lost ends by itself.
                self.started = (await self.status()).supervisor_pid == self._process.pid
                return
            code = self._process.poll()
            if code not in (None, 75):  # 75: another client's supervisor was faster
                raise EchoError(_last_words(log, said_from) or f"the supervisor could not start; its log is {log}")
            await asyncio.sleep(0.03)
        raise EchoError(f"the supervisor did not answer within {START_SECONDS:g} s; its log is {log}")


def _last_words(log: Path, since: int) -> str:
    with log.open("rb") as file:
        file.seek(since)
        lines = file.read()[-4096:].decode("utf-8", "replace").strip().splitlines()
    return lines[-1].removeprefix("echo-supervisor: ") if lines else ""


def snapshot_from(answer: dict[str, Any]) -> Snapshot:
    """From JSON; fields this version does not know are left out."""
    values = dict(answer["snapshot"])
    values["dependencies"] = tuple(_known(DependencyView, item) for item in values.get("dependencies", ()))
    values["agents"] = tuple(_known(AgentView, item) for item in values.get("agents", ()))
    launch = values.get("launch") or {}
    values["launch"] = LaunchView(tuple(launch.get("pending", ())), launch.get("next_in"))
    values["models"] = tuple(values.get("models", ()))
    return _known(Snapshot, values)


def _known(kind: Any, values: dict[str, Any]) -> Any:
    return kind(**{name: value for name, value in values.items() if name in kind.__dataclass_fields__})
