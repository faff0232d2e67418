from echo_core.health.breaker import BreakerPolicy, BreakerState, CircuitBreaker


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_it_opens_after_repeated_failures_and_lets_one_probe_through() -> None:
    clock = Clock()
    breaker = CircuitBreaker(BreakerPolicy(failures=2, open_seconds=1), clock=clock)
    breaker.failed("refused")
    assert breaker.allows()
    breaker.failed("refused")
    assert breaker.state is BreakerState.OPEN
    assert not breaker.allows()
    clock.now = 1.0
    assert breaker.allows()
    assert breaker.state is BreakerState.HALF_OPEN
    assert not breaker.allows()


def test_a_failed_probe_opens_it_for_longer_and_an_answer_closes_it() -> None:
    clock = Clock()
    seen: list[tuple[str, str]] = []
    breaker = CircuitBreaker(
        BreakerPolicy(failures=1, open_seconds=1, factor=2, maximum_open_seconds=8),
        clock=clock,
        on_change=lambda old, new, reason: seen.append((old, new)),
    )
    breaker.failed("refused")
    clock.now = 1.0
    assert breaker.allows()
    breaker.failed("refused again")
    clock.now = 2.5
    assert not breaker.allows()
    clock.now = 3.0
    assert breaker.allows()
    breaker.succeeded()
    assert [new for _, new in seen] == ["open", "half-open", "open", "half-open", "closed"]
