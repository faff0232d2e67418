import json
import time
from dataclasses import replace

import pytest

from echo_core.health.breaker import BreakerState
from echo_core.health.monitor import HealthMonitor, describe_exit, parse_heartbeat
from echo_core.health.states import AgentState, Heartbeat

BEAT = Heartbeat(role="cto", instance=1, pid=42, state="healthy")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_flood_of_invented_agents_is_bounded_and_those_known_are_still_heard() -> None:
    monitor, _ = _monitor()
    monitor.heartbeat(BEAT)
    for number in range(3000):
        monitor.hear(json.dumps({**BEAT.payload(), "role": f"invented_{number}"}).encode())
    assert len(monitor.agents()) == 1000
    assert monitor.hear(json.dumps(BEAT.payload()).encode()) is not None


def test_a_jump_of_the_wall_clock_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monitor = HealthMonitor()
    monitor.heartbeat(BEAT)
    for hours in (1, -1):
        jumped = time.time() + hours * 3600
        monkeypatch.setattr("time.time", lambda jumped=jumped: jumped)
        monitor.tick()
        assert monitor.agent("cto").state is AgentState.HEALTHY
        assert (monitor.age(monitor.agent("cto")) or 0) < 60


def _monitor() -> tuple[HealthMonitor, Clock]:
    clock = Clock()
    return HealthMonitor(clock=clock), clock


def test_silence_makes_an_agent_late_then_down_and_a_beat_brings_it_back() -> None:
    monitor, clock = _monitor()
    monitor.heartbeat(BEAT)
    health = monitor.agent("cto")
    assert health.state is AgentState.HEALTHY
    clock.now += 6.1
    monitor.tick()
    assert health.state is AgentState.LATE
    assert monitor.live("cto")
    clock.now += 6.1
    monitor.tick()
    assert health.state is AgentState.DOWN
    assert health.breaker.state is BreakerState.OPEN
    assert not monitor.live("cto")
    clock.now += 5
    monitor.heartbeat(BEAT)
    assert health.state is AgentState.HEALTHY
    assert health.breaker.state is BreakerState.CLOSED


def test_an_agent_that_beats_without_progress_on_its_message_is_stalled() -> None:
    monitor, clock = _monitor()
    busy = replace(BEAT, state="busy", activity="judging #1", progress=7)
    for _ in range(90):
        monitor.heartbeat(busy)
        clock.now += 2
    monitor.tick()
    assert monitor.agent("cto").state is AgentState.STALLED
    assert not monitor.live("cto")
    monitor.heartbeat(replace(busy, progress=8))
    assert monitor.agent("cto").state is AgentState.BUSY


def test_an_exit_says_how_and_opens_the_breaker_at_once() -> None:
    monitor, _ = _monitor()
    monitor.heartbeat(BEAT)
    monitor.exited("cto", 1, -9, expected=False)
    health = monitor.agent("cto")
    assert (health.state, health.exit) == (AgentState.CRASHED, "killed by SIGKILL")
    assert health.breaker.state is BreakerState.OPEN
    assert describe_exit(3) == "exit code 3"


def test_garbage_is_counted_and_changes_nothing() -> None:
    monitor, _ = _monitor()
    good = BEAT.payload()
    wrong = [
        {"role": "\x1b[31mcto"},
        {"role": "c" * 64},
        {"instance": -1},
        {"instance": True},
        {"pid": 10**30},
        {"rss_bytes": float("inf")},
        {"cpu_percent": float("nan")},
        {"breakers": ["open"]},
    ]
    garbage = [b"", b"{", b"[]", b"null", b'{"role": 3}', b'{"role": "cto"}', b"[" * 10_000, b"x" * 20_000]
    garbage += [json.dumps({**good, **change}).encode() for change in wrong]
    for data in garbage:
        assert monitor.hear(data) is None, data[:100]
    assert monitor.malformed == len(garbage)
    assert monitor.agents() == []
    assert parse_heartbeat(b'{"role":"cto","instance":1,"pid":4,"state":"healthy","new":1}') is not None


def test_a_process_that_never_beats_after_its_start_is_down_and_its_first_beat_makes_it_healthy() -> None:
    monitor, clock = _monitor()
    monitor.started("cto", 1, 42)
    clock.now += 19.0
    monitor.tick()
    assert monitor.agent("cto").state is AgentState.STARTING
    clock.now += 2.0
    monitor.tick()
    assert monitor.agent("cto").state is AgentState.DOWN
    assert not monitor.live("cto")
    monitor.heartbeat(BEAT)
    assert monitor.agent("cto").state is AgentState.HEALTHY
