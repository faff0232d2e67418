"""An agent as the operator sees it, put together from its process and its health."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from echo_core.health.monitor import AgentHealth, HealthMonitor
from echo_core.health.states import AgentState
from echo_core.organisation import Organisation
from echo_core.snapshot import AgentView
from echo_core.supervisor.child import Child

Key = tuple[str, int]  # role and instance


def name_of(key: Key) -> str:
    return key[0] if key[1] == 1 else f"{key[0]}-{key[1]}"


def launch_order(roster: Sequence[str], organisation: Organisation, own: Iterable[Key], monitor: HealthMonitor) -> list[Key]:
    """Our own agents and those heard from other machines: first instances in launch order, further ones behind."""
    roles = list(dict.fromkeys([*roster, *organisation.roles]))
    heard = [(health.role, health.instance) for health in monitor.agents()]
    keys = [key for key in dict.fromkeys([*own, *heard]) if key[0] in roles]
    return sorted(keys, key=lambda key: (key[1], roles.index(key[0])))


def agent_view(
    title: str, health: AgentHealth, age_seconds: float | None, child: Child | None, *, queued: bool, log_path: str
) -> AgentView:
    """`child` None: not (yet) a process of ours. `age_seconds` is that of its last heartbeat."""
    beat = health.beat
    view = AgentView(
        role=health.role,
        instance=health.instance,
        title=title if health.instance == 1 else f"{title} {health.instance}",
        state=AgentState.STARTING if queued else health.state,
        pid=health.pid,
        heartbeat_age=None if age_seconds is None else round(age_seconds, 1),
        breaker=health.breaker.state,
        exit=health.exit,
        local=child is not None or queued,
        log_path=log_path,
    )
    if beat is not None:
        view = replace(
            view,
            activity=beat.activity,
            waiting=beat.waiting,
            mind=beat.mind,
            rss_bytes=beat.rss_bytes,
            cpu_percent=beat.cpu_percent,
        )
    if child is not None:
        view = replace(
            view,
            pid=child.pid,
            restart_in=child.restart_in,
            crashes=child.crashes,
            crash_limit=child.policy.crashes,
        )
    return view
