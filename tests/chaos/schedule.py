"""The faults of a run, drawn from its seed: the same seed gives the same faults at the same places."""

from __future__ import annotations

import random
from dataclasses import dataclass

# How often a kind is drawn, against the others. Faults of servers are dear: each stops the whole organisation for a while.
WEIGHTS = {
    "kill an agent": 18,
    "stop an agent and let it go on": 12,
    "stop an agent for long": 4,
    "kill the conductor": 6,
    "stop the conductor and let it go on": 4,
    "stop the conductor for long": 2,
    "kill the supervisor": 6,
    "kill a sender": 8,
    "restart PostgreSQL": 4,
    "kill PostgreSQL": 4,
    "kill a PostgreSQL backend": 4,
    "hang PostgreSQL": 3,
    "restart Valkey": 4,
    "kill Valkey": 4,
    "hang Valkey": 3,
    "cut connections to PostgreSQL": 8,
    "cut connections to Valkey": 6,
    "cut the link": 6,
    "black-hole the link": 4,
    "hostile payloads": 8,
}
LASTING = {
    "stop an agent for long": (16.0, 20.0),  # beyond its leases (15 s): another takes its messages over
    "stop an agent and let it go on": (0.3, 5.0),
    "stop the conductor and let it go on": (0.3, 4.0),
    "stop the conductor for long": (18.0, 22.0),  # beyond its silence (15 s): the other machine's takes over
    "hang PostgreSQL": (0.5, 8.0),  # beyond the limit of a statement (5 s), and within it
    "hang Valkey": (0.5, 6.0),  # beyond two unanswered pings (4 s), and within them
    "black-hole the link": (0.5, 8.0),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """`pause_seconds` from the one before; `lasts_seconds` until it is undone; `alone`: the next waits until it is over."""

    number: int
    kind: str
    pause_seconds: float
    lasts_seconds: float
    alone: bool
    choice: float  # 0 to 1: which of the possible victims, whoever they are then


def schedule(seed: int, faults: int, *, longest_seconds: float = 60.0) -> list[Fault]:
    """Every kind at least once when there are enough of them, the rest drawn by weight, in an order drawn too.

    `longest_seconds` cuts what would last longer, and leaves out the kinds that could not do their harm in that time.
    """
    draw = random.Random(f"faults {seed}")
    kinds = [kind for kind in WEIGHTS if LASTING.get(kind, (0.0,))[0] <= longest_seconds]
    drawn = list(kinds) if faults >= len(kinds) else draw.sample(kinds, faults)
    drawn += draw.choices(kinds, [WEIGHTS[kind] for kind in kinds], k=faults - len(drawn))
    draw.shuffle(drawn)
    return [
        Fault(
            number=number,
            kind=kind,
            pause_seconds=draw.uniform(0.1, 1.2),
            lasts_seconds=min(longest_seconds, draw.uniform(*LASTING[kind])) if kind in LASTING else 0.0,
            alone=draw.random() < 0.7 and not kind.endswith("for long"),
            choice=draw.random(),
        )
        for number, kind in enumerate(drawn, start=1)
    ]
