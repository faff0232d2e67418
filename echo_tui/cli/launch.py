"""Waiting for an organisation to come up, and telling what it waits for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from echo_core.errors import SupervisorUnavailable
from echo_core.health.states import AgentState
from echo_core.settings import Settings
from echo_core.snapshot import AgentView, Snapshot
from echo_core.supervisor.client import SupervisorClient
from echo_tui.cli.output import progress
from echo_tui.cli.session import POLL_SECONDS, READY, by_key, name_of

START_SECONDS = 60.0  # for the servers and for each agent to come up, besides the delays between launches
CONDUCTOR = ("conductor", 1)


@dataclass(slots=True)
class Launch:
    """Follows a supervisor until `keys` are healthy; says each step once."""

    client: SupervisorClient
    keys: list[tuple[str, int]]
    quiet: bool = False
    _said: set[str] = field(default_factory=set)

    async def wait(self, seconds: float) -> list[str]:
        """Returns the names of those that are missing when the time is up: none when all is well."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        missing = ["supervisor"]
        while loop.time() < deadline:
            try:
                snapshot = await self.client.status()
            except SupervisorUnavailable:
                await self.client.connect()
                continue
            self._tell(snapshot)
            missing = self.missing(snapshot)
            if not missing:
                return []
            if self._hopeless(snapshot):
                return missing
            await asyncio.sleep(POLL_SECONDS)
        return missing

    def missing(self, snapshot: Snapshot) -> list[str]:
        lights = [light.name for light in snapshot.dependencies if light.name != "ollama" and light.state != "up"]
        conductor = [] if snapshot.conductor_state in READY else ["conductor"]
        agents = by_key(snapshot)
        absent = [name_of(key) for key in self.keys if key not in agents or agents[key].state not in READY]
        return [*lights, *conductor, *absent]

    def _hopeless(self, snapshot: Snapshot) -> bool:
        """Nothing is still to come: everything missing was given up."""
        agents = by_key(snapshot)
        return bool(self.keys) and all(
            key in agents and agents[key].state in (*READY, AgentState.GAVE_UP, AgentState.STOPPED) for key in self.keys
        )

    def _tell(self, snapshot: Snapshot) -> None:
        for light in snapshot.dependencies:
            if light.state == "up" or light.detail:
                self._once(f"{light.name}: {light.state}{f' ({light.detail})' if light.detail else ''}")
        for agent in snapshot.agents:
            self._tell_agent(agent)
        if snapshot.launch.pending and snapshot.launch.next_in is not None:
            self._once(f"next: {snapshot.launch.pending[0]} in {snapshot.launch.next_in:.0f} s", snapshot.launch.pending[0])
        if snapshot.notice:
            self._once(snapshot.notice)

    def _tell_agent(self, agent: AgentView) -> None:
        if agent.state in READY:
            self._once(f"{agent.name} is up (pid {agent.pid})")
        elif agent.state in (AgentState.CRASHED, AgentState.GAVE_UP):
            self._once(f"{agent.name} {agent.state}: {agent.exit}; its log is {agent.log_path}")

    def _once(self, text: str, key: str = "") -> None:
        if (key or text) not in self._said:
            self._said.add(key or text)
            if not self.quiet:
                progress(text)


def time_limit(settings: Settings) -> float:
    """Seconds for a launch with the settings' delays."""
    return START_SECONDS + settings.delay_seconds * len(settings.roster)
