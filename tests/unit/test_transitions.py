import itertools

from echo_core.health.breaker import BreakerState
from echo_core.health.transitions import WAITING, Transitions
from echo_core.storage.database import Database

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN


def test_an_outage_longer_than_the_room_leaves_out_failed_probes_and_stays_a_chain() -> None:
    transitions = Transitions(Database("", name="unused"), "cto", 1)
    transitions.note("postgresql", CLOSED, OPEN, "refused")
    transitions.note("redis", CLOSED, OPEN, "refused")
    for _ in range(WAITING):
        transitions.note("postgresql", OPEN, HALF_OPEN, "probing")
        transitions.note("postgresql", HALF_OPEN, OPEN, "refused again")
    transitions.note("postgresql", OPEN, HALF_OPEN, "probing")
    transitions.note("postgresql", HALF_OPEN, CLOSED, "answered")
    kept = list(transitions._waiting)
    assert len(kept) <= WAITING
    assert [one.of for one in kept].count("redis") == 1
    chain = [one for one in kept if one.of == "postgresql"]
    assert (chain[0].old, chain[-1].new) == (CLOSED, CLOSED)
    assert all(before.new is after.old for before, after in itertools.pairwise(chain))
