"""The embedded servers of a data directory, as one thing to start, keep and stop."""

from __future__ import annotations

import asyncio

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from echo_core.errors import EchoError
from echo_core.services.home import ServerHome
from echo_core.services.postgres import EmbeddedPostgres
from echo_core.services.valkey import EmbeddedValkey
from echo_core.settings import Settings
from echo_core.storage.migrations import ensure_schema, grant_application_user


class EmbeddedServers:
    """PostgreSQL and Valkey of one data directory. The URLs are known before the servers run.

    `fsync=False` is for tests only: a crash of the machine would lose data.
    """

    def __init__(self, settings: Settings, *, fsync: bool = True) -> None:
        self._settings = settings
        self._fsync = fsync
        self._bind(ServerHome.of(settings.data_dir))

    def _bind(self, home: ServerHome) -> None:
        self.postgres = EmbeddedPostgres(home, self._settings.logs_dir / "postgres.log", self._fsync)
        self.valkey = EmbeddedValkey(home, self._settings.logs_dir / "valkey.log")

    @property
    def database_url(self) -> str:
        return self.postgres.url("echo")

    @property
    def admin_url(self) -> str:
        return self.postgres.url("postgres")

    @property
    def redis_url(self) -> str:
        return self.valkey.url

    def postgres_pid(self) -> int | None:
        return self.postgres.pid

    def valkey_pid(self) -> int | None:
        return self.valkey.pid

    async def start(self) -> None:
        """Start or adopt what the settings give no URL for. Raises EchoError with one line and the log's place."""
        self._settings.prepare()
        if ServerHome.of(self._settings.data_dir) != self.postgres.home or not self.postgres.home.folder.is_dir():
            self._bind(ServerHome.prepare(self._settings.data_dir))
        else:
            ServerHome.prepare(self._settings.data_dir)
        await asyncio.gather(
            *([] if self._settings.database_url else [self._start_postgres()]),
            *([] if self._settings.redis_url else [self.valkey.start()]),
        )

    async def ensure(self, name: str) -> None:
        """Start `postgresql` or `valkey` again if it died; nothing to do while it lives."""
        if name == "postgresql" and self.postgres.pid is None:
            await self.postgres.start()
        elif name == "valkey" and self.valkey.pid is None:
            await self.valkey.start()

    async def stop(self) -> None:
        """Also ends servers that an earlier process started; not those in whose place the settings give a URL."""
        await asyncio.gather(
            *([] if self._settings.redis_url else [self.valkey.stop()]),
            *([] if self._settings.database_url else [self.postgres.stop()]),
        )

    async def _start_postgres(self) -> None:
        await self.postgres.start()
        try:
            await self._make_database()
        except (psycopg.Error, OSError) as error:
            reason = " ".join(str(error).split())
            raise EchoError(f"PostgreSQL runs, but its database can't be made ready: {reason}") from error

    async def _make_database(self) -> None:
        async with await psycopg.AsyncConnection.connect(
            self.postgres.url("postgres", "postgres"), autocommit=True
        ) as server:
            if not await (await server.execute("SELECT 1 FROM pg_roles WHERE rolname = 'echo'")).fetchone():
                await server.execute("CREATE ROLE echo LOGIN")
            if not await (await server.execute("SELECT 1 FROM pg_database WHERE datname = 'echo'")).fetchone():
                await server.execute(sql.SQL("CREATE DATABASE echo"))
        async with await psycopg.AsyncConnection.connect(self.admin_url, autocommit=True, row_factory=dict_row) as admin:
            await ensure_schema(admin)
            await grant_application_user(admin)


def resolve_urls(settings: Settings) -> Settings:
    """The settings with both URLs filled in: the given ones, else the embedded servers'."""
    servers = EmbeddedServers(settings)
    return settings.with_urls(settings.database_url or servers.database_url, settings.redis_url or servers.redis_url)
