"""What the supervisor tells a client about its data directory: one value, sent as one JSON line, again on every change."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class DependencyView:
    """A light in the header. `state`: starting, up, down or off (not wanted); `detail` says why, or what it means."""

    name: str  # postgresql, redis, ollama
    state: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class AgentView:
    """One agent as the operator sees it. Ages and waits in seconds; `state` is a value of `AgentState`."""

    role: str
    instance: int
    title: str
    state: str
    pid: int | None = None
    activity: str = ""
    heartbeat_age: float | None = None
    breaker: str = "closed"
    waiting: int = 0
    mind: str = ""
    rss_bytes: int = 0
    cpu_percent: float = 0.0
    exit: str = ""  # "killed by SIGKILL", "exit code 1", "" while it runs
    restart_in: float | None = None
    crashes: int = 0
    crash_limit: int = 5
    local: bool = True  # False: it runs on another machine, seen by its heartbeats only
    log_path: str = ""

    @property
    def name(self) -> str:
        """`cto`, and for further instances `cto-2`: names logs, processes and lock files."""
        return self.role if self.instance == 1 else f"{self.role}-{self.instance}"


@dataclass(frozen=True, slots=True)
class LaunchView:
    """The staggered start: who is next and when. `pending` empty: nothing left to launch."""

    pending: tuple[str, ...] = ()
    next_in: float | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that the supervisor knows, `at` in seconds since the epoch (UTC)."""

    at: float
    data_dir: str
    organisation: str
    database_url: str
    redis_url: str
    supervisor_pid: int
    stopping: bool = False  # asked to end everything: when it is gone, that was wanted
    conductor_pid: int | None = None
    conductor_state: str = "starting"
    dependencies: tuple[DependencyView, ...] = ()
    agents: tuple[AgentView, ...] = ()
    launch: LaunchView = field(default_factory=LaunchView)
    pending: int = 0  # deliveries owed to agents
    dead: int = 0  # dead letters
    outbox: int = 0  # messages held on disk until PostgreSQL is back
    models: tuple[str, ...] = ()  # installed in Ollama
    ollama_host: str = ""
    notice: str = ""  # one line that needs the operator, "" when all is well
