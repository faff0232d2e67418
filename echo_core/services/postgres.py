"""A real PostgreSQL 18 for one data directory, on a Unix socket only."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg

from echo_core.errors import EchoError
from echo_core.services.home import ServerHome
from echo_core.services.process import POLL_SECONDS, end, living, read_pid, spawn

START_SECONDS = 30.0  # recovery after a crash can take a while on a slow disk

_CONFIGURATION = """
# Written by ECHO. One organisation on one machine: small memory, many short connections, no network.
listen_addresses = ''
unix_socket_permissions = 0700
max_connections = 300
shared_buffers = 64MB
wal_level = minimal
max_wal_senders = 0
max_wal_size = 512MB
autovacuum_naptime = 30s
timezone = 'UTC'
log_timezone = 'UTC'
"""


@dataclass(slots=True)
class EmbeddedPostgres:
    home: ServerHome
    log: Path
    fsync: bool = True
    _process: subprocess.Popen[bytes] | None = None

    def url(self, user: str, database: str = "echo") -> str:
        return f"postgresql://{user}@/{database}?host={quote(str(self.home.postgres_data), safe='/')}"

    @property
    def pid(self) -> int | None:
        if self._process is not None:
            self._process.poll()  # reaps it when it is our child
        pid = read_pid(self.home.postgres_data / "postmaster.pid")
        return pid if living(pid, "postgres", self.home.postgres_data) else None

    async def start(self) -> None:
        """Make the cluster if there is none, start the server unless it runs, wait until it answers."""
        data = self.home.postgres_data
        installation = await asyncio.to_thread(self.home.postgres_installation)
        if not (data / "PG_VERSION").exists():
            await asyncio.to_thread(self._make_cluster, installation)
        if self.pid is None:
            arguments = [str(installation / "bin" / "postgres"), "-D", str(data), "-k", str(data)]
            if not self.fsync:
                arguments += ["-c", "fsync=off"]
            self._process = spawn(arguments, self.log, self.home.spawn_options, data)
        await self._answers()

    async def stop(self) -> None:
        signals = ((signal.SIGINT, 8.0), (signal.SIGQUIT, 4.0), (signal.SIGKILL, 2.0))
        await end(self.pid, "postgres", self.home.postgres_data, signals)
        if self._process is not None:
            await asyncio.to_thread(self._process.wait)
            self._process = None

    def _make_cluster(self, installation: Path) -> None:
        data = self.home.postgres_data
        made = subprocess.run(
            [
                str(installation / "bin" / "initdb"), "--pgdata", str(data), "--username=postgres", "--encoding=UTF8",
                "--locale=C", "--auth=peer", "--no-sync", "--no-instructions",
            ],
            capture_output=True, text=True, cwd=data, umask=0o077, check=False,
            **self.home.spawn_options,  # type: ignore[call-overload]
        )  # fmt: skip
        if made.returncode:
            (data / "PG_VERSION").unlink(missing_ok=True)
            reason = (made.stderr or made.stdout).strip().splitlines()[-1:] or ["no reason given"]
            raise EchoError(f"PostgreSQL could not make its files: {reason[0]}")
        with (data / "postgresql.conf").open("a") as configuration:
            configuration.write(_CONFIGURATION)
        (data / "pg_hba.conf").write_text("local all all peer map=echo\n")
        (data / "pg_ident.conf").write_text(
            "".join(f'echo "{us}" {user}\n' for us in self.home.operating_system_users for user in ("postgres", "echo"))
        )

    async def _answers(self) -> None:
        for _ in range(int(START_SECONDS / POLL_SECONDS)):
            if self._process is not None and self._process.poll() is not None:
                raise EchoError(f"PostgreSQL stopped while starting; its log is {self.log}")
            try:
                await (await psycopg.AsyncConnection.connect(self.url("postgres", "postgres"), connect_timeout=5)).close()
                return
            except psycopg.OperationalError:
                await asyncio.sleep(POLL_SECONDS)
        raise EchoError(f"PostgreSQL did not answer within {START_SECONDS:g} s; its log is {self.log}")
