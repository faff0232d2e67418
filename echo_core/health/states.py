"""What an agent can be, and what it says in a heartbeat."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

HEARTBEAT_SECONDS = 2.0  # often enough that three missed beats are still "a few seconds"
LATE_SECONDS = 6.0  # three beats missed
DOWN_SECONDS = 12.0  # six beats missed: nobody should wait for this agent any more


class AgentState(StrEnum):
    STARTING = "starting"
    HEALTHY = "healthy"
    BUSY = "busy"
    STALLED = "stalled"  # beats, but makes no progress on its message
    LATE = "late"
    DOWN = "down"
    STOPPED = "stopped"
    CRASHED = "crashed"
    GAVE_UP = "gave up"  # crashed too often; a person must look


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """One beat on `agents:heartbeat`, JSON with these keys. `progress` grows with every step an agent takes on a message."""

    role: str
    instance: int
    pid: int
    state: str  # starting, healthy, busy, stopped
    activity: str = "idle"  # what it is doing, for a person: "judging #42"
    progress: int = 0
    waiting: int = 0  # deliveries owed to the role
    rss_bytes: int = 0
    cpu_percent: float = 0.0
    dependencies: dict[str, bool] = field(default_factory=dict)  # postgresql, redis, ollama: reached?
    breakers: dict[str, str] = field(default_factory=dict)  # postgresql, redis, model:<name>: closed/open/half-open
    mind: str = "rules"  # "rules" or the model's name
    version: str = ""
    host: str = ""

    def payload(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}
