"""Heartbeats and exits in, states and breakers out. Pure: no I/O, and no clock but a monotonic one."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields

from echo_core.health.breaker import BreakerPolicy, BreakerState, CircuitBreaker
from echo_core.health.states import DOWN_SECONDS, LATE_SECONDS, AgentState, Heartbeat

_BEAT_LIMIT_BYTES = 16_384  # a real beat has some 500
_AGENTS = 1000  # more than any organisation has; a flood of invented names must not fill the memory
_ROLE = re.compile(r"[a-z][a-z0-9_]{0,62}")  # as the database has it
_HIGHEST = 2**63
_KNOWN = {f.name: f for f in fields(Heartbeat)}
_UNWELL = {AgentState.DOWN, AgentState.CRASHED, AgentState.GAVE_UP, AgentState.STALLED, AgentState.STOPPED}


@dataclass(frozen=True, slots=True)
class HealthPolicy:
    """Seconds without a beat until late and down; seconds without progress on a message until stalled."""

    late_seconds: float = LATE_SECONDS
    down_seconds: float = DOWN_SECONDS
    stalled_seconds: float = 150.0  # a slow model may take two minutes for one answer
    start_seconds: float = 20.0  # without a first beat: far beyond what starting takes, also on a busy machine

    def __post_init__(self) -> None:
        if not 0 < self.late_seconds < self.down_seconds or self.stalled_seconds <= 0:
            raise ValueError(f"contradictory health policy: {self}")


@dataclass(slots=True)
class AgentHealth:
    """What is known of one role instance. `heard_at` and `progressed_at` are monotonic seconds."""

    role: str
    instance: int
    breaker: CircuitBreaker
    state: AgentState = AgentState.STARTING
    pid: int | None = None
    beat: Heartbeat | None = None
    heard_at: float | None = None
    progressed_at: float = 0.0
    exit: str = ""
    notes: dict[str, str] = field(default_factory=dict)


class HealthMonitor:
    """Derives each agent's state. `on_transition(health, old, new, reason)` is told of every change.

    `on_breaker(health, old, new, reason)` is told of the breaker in front of an agent; those inside it tell themselves.
    Age is counted from when a beat was heard here, never from the time it claims: a jump of the wall clock changes nothing.
    """

    def __init__(
        self,
        policy: HealthPolicy | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        on_transition: Callable[[AgentHealth, AgentState, AgentState, str], None] | None = None,
        on_breaker: Callable[[AgentHealth, BreakerState, BreakerState, str], None] | None = None,
    ) -> None:
        self.policy = policy or HealthPolicy()
        self.malformed = 0
        self._clock = clock
        self._on_transition = on_transition
        self._on_breaker = on_breaker
        self._agents: dict[tuple[str, int], AgentHealth] = {}

    def agents(self) -> list[AgentHealth]:
        return list(self._agents.values())

    def agent(self, role: str, instance: int = 1) -> AgentHealth:
        key = (role, instance)
        if key not in self._agents:
            breaker = CircuitBreaker(BreakerPolicy(failures=3, open_seconds=2), clock=self._clock)
            health = AgentHealth(role, instance, breaker)
            breaker.on_change = lambda old, new, reason: self._breaker_changed(health, old, new, reason)
            health.progressed_at = self._clock()
            self._agents[key] = health
        return self._agents[key]

    def forget(self, role: str, instance: int = 1) -> None:
        self._agents.pop((role, instance), None)

    def age(self, health: AgentHealth) -> float | None:
        """Seconds since the last beat was heard, None before the first."""
        return None if health.heard_at is None else self._clock() - health.heard_at

    def live(self, role: str) -> bool:
        """Whether some instance of the role can be expected to answer: a phase waits for nobody else."""
        return any(
            health.role == role
            and health.state in (AgentState.HEALTHY, AgentState.BUSY, AgentState.LATE)
            and health.breaker.state is not BreakerState.OPEN
            for health in self._agents.values()
        )

    def hear(self, data: bytes) -> Heartbeat | None:
        """A payload of `agents:heartbeat`; None, and counted, if it is not a beat."""
        beat = parse_heartbeat(data)
        if beat is None or ((beat.role, beat.instance) not in self._agents and len(self._agents) >= _AGENTS):
            self.malformed += 1
            return None
        self.heartbeat(beat)
        return beat

    def heartbeat(self, beat: Heartbeat) -> None:
        health = self.agent(beat.role, beat.instance)
        now = self._clock()
        if health.beat is None or beat.progress != health.beat.progress or beat.state != AgentState.BUSY:
            health.progressed_at = now
        health.beat, health.heard_at, health.pid = beat, now, beat.pid
        if beat.state == AgentState.STOPPED:
            self._move(health, AgentState.STOPPED, "stopped")
            return
        health.exit = ""
        self._move(health, self._beating_state(health), "heartbeat")
        if health.state in (AgentState.HEALTHY, AgentState.BUSY) and (
            health.breaker.state is BreakerState.HALF_OPEN or health.breaker.allows()
        ):
            health.breaker.succeeded()

    def started(self, role: str, instance: int, pid: int) -> None:
        health = self.agent(role, instance)
        health.pid, health.beat, health.heard_at, health.exit = pid, None, None, ""
        health.progressed_at = self._clock()
        self._move(health, AgentState.STARTING, f"started as pid {pid}")

    def exited(self, role: str, instance: int, returncode: int | None, *, expected: bool, gave_up: bool = False) -> None:
        health = self.agent(role, instance)
        health.exit = describe_exit(returncode)
        health.pid = None
        state = AgentState.STOPPED if expected else AgentState.GAVE_UP if gave_up else AgentState.CRASHED
        self._move(health, state, health.exit)

    def stopped(self, role: str, instance: int) -> None:
        """A person stopped it while it was not running: between a crash and its restart, or before its launch."""
        self._move(self.agent(role, instance), AgentState.STOPPED, "stopped")

    def record_failure(self, role: str, reason: str) -> None:
        """An agent did not do what it was asked in time."""
        for health in self._agents.values():
            if health.role == role:
                health.breaker.failed(reason)

    def tick(self) -> None:
        """Call about once a second: silence is noticed here."""
        for health in self._agents.values():
            if health.state in (AgentState.STOPPED, AgentState.CRASHED, AgentState.GAVE_UP):
                continue
            age = self.age(health)
            if age is None:
                silent = self._clock() - health.progressed_at
                if silent >= self.policy.start_seconds and health.pid is not None:
                    self._move(health, AgentState.DOWN, f"no heartbeat since it started {silent:.0f} s ago")
            elif age >= self.policy.down_seconds:
                self._move(health, AgentState.DOWN, f"no heartbeat for {age:.0f} s")
            elif age >= self.policy.late_seconds:
                self._move(health, AgentState.LATE, f"no heartbeat for {age:.0f} s")
            else:
                self._move(health, self._beating_state(health), "")

    def _beating_state(self, health: AgentHealth) -> AgentState:
        assert health.beat is not None
        if health.beat.state != AgentState.BUSY:
            return AgentState.STARTING if health.beat.state == AgentState.STARTING else AgentState.HEALTHY
        stuck = self._clock() - health.progressed_at
        return AgentState.STALLED if stuck > self.policy.stalled_seconds else AgentState.BUSY

    def _move(self, health: AgentHealth, new: AgentState, reason: str) -> None:
        old, health.state = health.state, new
        if old is new:
            return
        if new in _UNWELL and health.breaker.state is not BreakerState.OPEN:
            health.breaker.trip(f"{new}: {reason}")
        if self._on_transition is not None:
            self._on_transition(health, old, new, reason)

    def _breaker_changed(self, health: AgentHealth, old: BreakerState, new: BreakerState, reason: str) -> None:
        if self._on_breaker is not None:
            self._on_breaker(health, old, new, reason)


def parse_heartbeat(data: bytes) -> Heartbeat | None:
    if len(data) > _BEAT_LIMIT_BYTES:
        return None
    try:
        values = json.loads(data)
        beat = Heartbeat(**{name: value for name, value in values.items() if name in _KNOWN})
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    if not isinstance(beat.role, str) or not isinstance(beat.state, str) or not isinstance(beat.activity, str):
        return None
    if not isinstance(beat.breakers, dict) or not all(isinstance(state, str) for state in beat.breakers.values()):
        return None
    if not _ROLE.fullmatch(beat.role):
        return None
    counts = (beat.instance, beat.pid, beat.progress, beat.waiting, beat.rss_bytes)
    if not all(type(number) is int and 0 <= number < _HIGHEST for number in counts):
        return None
    # Neither infinite nor not-a-number, both of which JSON lets through.
    return beat if isinstance(beat.cpu_percent, int | float) and 0 <= beat.cpu_percent < _HIGHEST else None


def describe_exit(returncode: int | None) -> str:
    """How a process ended, in words: "exit code 1", "killed by SIGKILL"."""
    if returncode is None:
        return "ended (exit code unknown: it was started by an earlier supervisor)"
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = f"signal {-returncode}"
    return f"killed by {name}"
