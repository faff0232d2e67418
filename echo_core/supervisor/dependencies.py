"""The lights: what of PostgreSQL, Redis and Ollama can be reached, and what waits because of it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from echo_core.bus.announcements import Announcements
from echo_core.bus.outbox import Outbox
from echo_core.errors import EchoError
from echo_core.health.states import AgentState
from echo_core.minds.choose import installed_models
from echo_core.settings import Settings
from echo_core.snapshot import AgentView, DependencyView
from echo_core.storage.database import Database

OLLAMA_LOOK_SECONDS = 10.0


class Dependencies:
    """Looks about once a second, and never raises for a server that is away."""

    def __init__(self, settings: Settings, database: Database, announcements: Announcements, outbox: Outbox) -> None:
        self._settings, self._database, self._announcements, self._outbox = settings, database, announcements, outbox
        self._database_detail = ""
        self._ollama_asked = -OLLAMA_LOOK_SECONDS
        self._ollama_up = False
        self.models: tuple[str, ...] = ()
        self.pending = 0
        self.dead = 0

    async def look(self) -> None:
        try:
            row = await self._database.fetch_one("delivery_counts")
            if row is not None:
                self.pending, self.dead = row["pending"], row["dead"]
        except EchoError as error:
            self._database_detail = str(error)
        if self._settings.llm != "off" and time.monotonic() - self._ollama_asked >= OLLAMA_LOOK_SECONDS:
            self._ollama_asked = time.monotonic()
            models = await installed_models(self._settings.ollama_host)
            self._ollama_up, self.models = models is not None, tuple(models or ())

    def views(self, notice: str, *, starting: bool) -> tuple[DependencyView, ...]:
        """`starting`: our own servers are still coming up, so that their silence is no trouble yet."""
        wait = starting and not notice
        return (
            DependencyView("postgresql", _light(self._database.reachable, wait), "" if wait else self._detail(notice)),
            DependencyView("redis", _light(self._announcements.reachable, wait)),
            self._ollama(),
        )

    def notice(self, agents: Sequence[AgentView], *, starting: bool) -> str:
        """The one line that needs a person, most urgent first."""
        if gone := [agent.title for agent in agents if agent.state == AgentState.GAVE_UP]:
            return f"{', '.join(gone)} crashed too often and was given up; focus the pane and press r to start it again"
        if self._database.reachable is False and not starting:
            return "PostgreSQL can't be reached: what you send is held and goes out when it is back"
        if self.dead:
            return f"{self.dead} messages could not be handled; press l to see and retry them"
        return ""

    def _detail(self, notice: str) -> str:
        return notice or (self._database_detail if self._database.reachable is False else "")

    def _ollama(self) -> DependencyView:
        if self._settings.llm == "off":
            return DependencyView("ollama", "off", "rules")
        if self._ollama_up and self.models:
            return DependencyView("ollama", "up", f"{len(self.models)} models")
        if self._ollama_up:
            return DependencyView("ollama", "off", "no model installed: rules")
        return DependencyView("ollama", "down" if self._settings.llm == "ollama" else "off", "rules")


def _light(reachable: bool | None, starting: bool) -> str:
    if reachable:
        return "up"
    return "starting" if starting or reachable is None else "down"
