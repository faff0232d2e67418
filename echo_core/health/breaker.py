"""A circuit breaker: after repeated failures, stop asking for a while, then let one probe through."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When to stop asking (consecutive failures) and how long to wait before a probe (seconds, doubling to a maximum)."""

    failures: int = 3
    open_seconds: float = 1.0
    factor: float = 2.0
    maximum_open_seconds: float = 15.0

    def __post_init__(self) -> None:
        if self.failures < 1 or self.open_seconds <= 0 or self.factor < 1 or self.maximum_open_seconds < self.open_seconds:
            raise ValueError(f"contradictory breaker policy: {self}")


class CircuitBreaker:
    """Closed, open or half-open in front of one dependency.

    `clock` returns monotonic seconds, so a jump of the wall clock changes nothing. `on_change(old, new, reason)` is told
    of every transition.
    """

    def __init__(
        self,
        policy: BreakerPolicy | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[BreakerState, BreakerState, str], None] | None = None,
    ) -> None:
        self.policy = policy or BreakerPolicy()
        self._clock = clock
        self.on_change = on_change
        self._state = BreakerState.CLOSED
        self._failures = 0
        self._openings = 0
        self._open_until = 0.0

    @property
    def state(self) -> BreakerState:
        return self._state

    @property
    def seconds_until_probe(self) -> float:
        return max(0.0, self._open_until - self._clock()) if self._state is BreakerState.OPEN else 0.0

    def allows(self) -> bool:
        """Whether to ask now. When the wait is over, one caller is let through as the probe."""
        if self._state is BreakerState.OPEN and self._clock() >= self._open_until:
            self._move(BreakerState.HALF_OPEN, "probing")
            return True
        return self._state is BreakerState.CLOSED

    def succeeded(self) -> None:
        self._failures = 0
        self._openings = 0
        if self._state is not BreakerState.CLOSED:
            self._move(BreakerState.CLOSED, "answered")

    def failed(self, reason: str) -> None:
        self._failures += 1
        if self._state is BreakerState.HALF_OPEN or (
            self._state is BreakerState.CLOSED and self._failures >= self.policy.failures
        ):
            self.trip(reason)

    def trip(self, reason: str) -> None:
        """Open at once, whatever the count: the caller knows the dependency is gone."""
        wait = min(self.policy.open_seconds * self.policy.factor**self._openings, self.policy.maximum_open_seconds)
        self._openings = min(self._openings + 1, 32)
        self._open_until = self._clock() + wait
        if self._state is not BreakerState.OPEN:
            self._move(BreakerState.OPEN, reason)

    def _move(self, new: BreakerState, reason: str) -> None:
        old, self._state = self._state, new
        if self.on_change is not None:
            self.on_change(old, new, reason)
