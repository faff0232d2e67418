"""The servers of a data directory as the supervisor keeps them: started first, the schema made, and started again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import Any

from echo_core.errors import EchoError
from echo_core.logs import Log
from echo_core.organisation import Organisation
from echo_core.services import EmbeddedServers, resolve_urls
from echo_core.settings import Settings
from echo_core.storage.database import Database
from echo_core.storage.migrations import ensure_schema
from echo_core.storage.roles import sync_roles

CHECK_SECONDS = 0.5
RETRY_SECONDS = 0.5  # the first wait after a failure, doubling
MAXIMUM_RETRY_SECONDS = 5.0
SCHEMA_SECONDS = 30.0  # several machines may make it at once, one after another


@dataclass(slots=True)
class _Failing:
    """A server that could not be started again. `retry_at` in monotonic seconds."""

    said: str = ""
    wait: float = RETRY_SECONDS
    retry_at: float = 0.0


class ServerKeeper:
    """Given URLs are somebody else's servers: they are waited for and never touched.

    `note(payload)` is told what belongs into the timeline; `on_settings` gets the settings with both URLs, which are
    known for sure once our own servers have their home.
    """

    def __init__(
        self,
        given: Settings,
        organisation: Organisation,
        log: Log,
        *,
        active_roles: Callable[[], Set[str] | None],
        on_settings: Callable[[Settings], None],
        note: Callable[[dict[str, Any]], None],
    ) -> None:
        self.notice = ""  # why the servers are not there, "" while they are or may still come
        self._given, self._organisation, self._log = given, organisation, log
        self._active_roles, self._on_settings, self._note = active_roles, on_settings, note
        self._servers = EmbeddedServers(given)
        self._ready = asyncio.Event()
        self._tried = asyncio.Event()
        self._failing: dict[str, _Failing] = {}

    @property
    def ready(self) -> bool:
        """The servers answer and the schema is there."""
        return self._ready.is_set()

    @property
    def tried(self) -> bool:
        """Ready, or it is known why not: whoever asked them before would only hear that they are starting."""
        return self._tried.is_set()

    async def wait_until_tried(self) -> None:
        await self._tried.wait()

    async def keep(self) -> None:
        """Until cancelled."""
        await self._begin()
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            if not self._given.database_url:
                await self._keep_one("postgresql", self._servers.postgres_pid())
            if not self._given.redis_url:
                await self._keep_one("valkey", self._servers.valkey_pid())

    async def stop(self) -> None:
        if self._given.embedded:
            await self._servers.stop()

    async def _begin(self) -> None:
        wait = RETRY_SECONDS
        while not self.ready:
            try:
                if self._given.embedded:
                    await self._servers.start()
                    self._on_settings(resolve_urls(self._given))
                await self._prepare_schema()
            except EchoError as error:
                if self.notice != str(error):
                    self._log.error("servers", str(error))
                self.notice = str(error)
                self._tried.set()
                await asyncio.sleep(wait)
                wait = min(wait * 2, MAXIMUM_RETRY_SECONDS)
            else:
                self.notice = ""
                self._ready.set()
                self._tried.set()

    async def _keep_one(self, name: str, pid: int | None) -> None:
        failing = self._failing.get(name)
        if pid is not None:
            self._failing.pop(name, None)
            return
        if failing is None:
            failing = self._failing[name] = _Failing()
            self._log.warn("servers", f"{name} died; starting it again")
            self._note({"what": "server died", "server": name})
        if time.monotonic() < failing.retry_at:
            return
        try:
            await self._servers.ensure(name)
        except EchoError as error:
            if failing.said != str(error):
                self._log.error("servers", str(error))
            failing.said = self.notice = str(error)
            failing.retry_at = time.monotonic() + failing.wait
            failing.wait = min(failing.wait * 2, MAXIMUM_RETRY_SECONDS)
            return
        self.notice = ""
        self._failing.pop(name, None)
        self._log.info("servers", f"{name} is back")
        self._note({"what": "server is back", "server": name})

    async def _prepare_schema(self) -> None:
        admin = Database(self._given.database_url or self._servers.admin_url, name="schema")
        try:
            async with admin.session(timeout=SCHEMA_SECONDS) as connection:
                await ensure_schema(connection)
                await sync_roles(connection, self._organisation, self._active_roles())
        finally:
            await admin.close()
