"""What changed between two states, in a sentence for the event line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from echo_core.health.states import AgentState
from echo_core.logs import log_line
from echo_core.snapshot import AgentView, Snapshot
from echo_core.workflow.record import DecisionRecord, Phase
from echo_tui.columns import duration
from echo_tui.state import READY

_SERVERS = {
    "postgresql": ("PostgreSQL", "what you send is held and goes out when it is back"),
    "redis": ("Redis", "messages arrive a little later until it is back"),
}
_BAD = (AgentState.CRASHED, AgentState.GAVE_UP, AgentState.DOWN, AgentState.STALLED, AgentState.LATE)


@dataclass(frozen=True, slots=True)
class AgentNews:
    """`log_line`: what the agent itself could not write any more, for its pane; empty otherwise."""

    agent: str
    text: str
    urgent: bool = False
    log_line: bytes = b""


def agent_news(before: Snapshot | None, now: Snapshot, at: datetime) -> Iterator[AgentNews]:
    old = {agent.name: agent for agent in before.agents} if before else {}
    ready = sum(agent.state in READY for agent in now.agents)
    for agent in now.agents:
        was = old.get(agent.name)
        if was is None or was.state == agent.state:
            continue
        if agent.state in _BAD:
            yield _trouble(agent, at)
        elif agent.state in READY and was.state == AgentState.STARTING:
            yield AgentNews(agent.name, f"{agent.title} is up ({ready} of {len(now.agents)})")
        elif agent.state in READY and was.state in _BAD:
            yield AgentNews(agent.name, f"{agent.title} is {agent.state} again")
        elif agent.state == AgentState.STOPPED:
            yield AgentNews(agent.name, f"{agent.title} stopped; x starts it again")
    if before is not None:
        yield from _server_news(before, now)
    if before is not None and before.dead < now.dead:
        count = now.dead - before.dead
        yield AgentNews("", f"{count} message{'s' if count > 1 else ''} could not be handled: l shows why", urgent=True)


def _server_news(before: Snapshot, now: Snapshot) -> Iterator[AgentNews]:
    if before.supervisor_pid != now.supervisor_pid:
        yield AgentNews("", "another supervisor has taken over what runs")
    lights = {light.name: light.state for light in before.dependencies}
    for light in now.dependencies:
        was = lights.get(light.name)
        if light.name in _SERVERS and light.state == "down" and was == "up":
            yield AgentNews("", f"{_SERVERS[light.name][0]} is away: {_SERVERS[light.name][1]}", urgent=True)
        elif light.name in _SERVERS and light.state == "up" and was == "down":
            yield AgentNews("", f"{_SERVERS[light.name][0]} is back")


def _trouble(agent: AgentView, at: datetime) -> AgentNews:
    match agent.state:
        case AgentState.CRASHED:
            again = "" if agent.restart_in is None else f", restart in {duration(agent.restart_in)}"
            text = f"{agent.exit}{again} ({agent.crashes} of {agent.crash_limit})"
            line = log_line("ERROR", "exit", text, at).encode()
            return AgentNews(agent.name, f"{agent.title} crashed: {text}", True, line)
        case AgentState.GAVE_UP:
            text = f"gave up after {agent.crashes} crashes, last: {agent.exit}; r starts it again"
            return AgentNews(agent.name, f"{agent.title} {text}", True, log_line("ERROR", "exit", text, at).encode())
        case AgentState.STALLED:
            return AgentNews(agent.name, f"{agent.title} makes no progress on {agent.activity}; r restarts it", True)
        case AgentState.LATE:
            return AgentNews(agent.name, f"{agent.title} is late: no heartbeat for some seconds")
        case _:
            return AgentNews(agent.name, f"{agent.title} is down: no heartbeat; nobody waits for it", True)


def decision_news(before: DecisionRecord | None, now: DecisionRecord | None) -> Iterator[tuple[str, bool]]:
    """(text, urgent). The last one is what stands in the event line."""
    if now is None or before is None or before.id != now.id:
        return
    for was, phase in zip(before.phases, now.phases, strict=True):
        if was.state == phase.state:
            continue
        title = Phase(phase.phase).title
        reason = str(phase.detail.get("reason") or "")
        if phase.state == "completed":
            told = f"{title} took {duration(phase.seconds)}" + (f": {reason}" if reason else "")
            yield told, bool(reason)
        elif phase.state == "failed":
            yield f"{title} ended short: {reason or 'no reason given'}", True
        elif phase.state == "waiting" and phase.detail.get("waiting_for") != "approval":
            yield f"{title} is next: press n", False
    if before.status != now.status:
        score = "" if now.consensus_score is None else f" with a score of {now.consensus_score:.2f}"
        if now.status == "escalated":
            yield f"no decision{score}: it waits for you, press d", True
        else:
            yield f"#{now.number} {now.status}{score}: d shows the whole", False
