"""What the control room shows: values only, handed down to widgets. Nothing here can block or fail."""

from __future__ import annotations

from dataclasses import dataclass, field

from echo_core.health.states import AgentState
from echo_core.snapshot import AgentView, Snapshot
from echo_core.workflow.record import DecisionRecord

READY = (AgentState.HEALTHY, AgentState.BUSY)
NEEDS_PERSON = (AgentState.STALLED, AgentState.GAVE_UP)


@dataclass(frozen=True, slots=True)
class RoomState:
    """`snapshot` None: no supervisor has answered yet. `problem`: one line that says why, or what can't be reached.

    `decision` is the one on the screen: the newest open one, else the newest, unless the operator chose another.
    `open_decisions` counts those that are not ended. `next_pace` is the pace of the next broadcast.
    `waited_seconds` counts from the control room's start until the first snapshot.
    """

    snapshot: Snapshot | None = None
    decision: DecisionRecord | None = None
    open_decisions: int = 0
    next_pace: str = "step"
    problem: str = ""
    waited_seconds: float = 0.0
    titles: dict[str, str] = field(default_factory=dict)  # by role

    @property
    def agents(self) -> tuple[AgentView, ...]:
        return self.snapshot.agents if self.snapshot else ()

    @property
    def pace(self) -> str:
        """`step` or `auto`: of the open decision, else of the next one."""
        return self.decision.pace if self.decision and self.decision.status == "pending" else self.next_pace

    def title(self, role: str) -> str:
        return self.titles.get(role) or role.replace("_", " ").capitalize()

    @property
    def calls_for_a_person(self) -> list[str]:
        """Everything that waits for the operator, most urgent first."""
        calls = [f"{agent.title} {agent.state}" for agent in self.agents if agent.state in NEEDS_PERSON]
        if self.decision and self.decision.status == "escalated":
            calls.append("the decision waits for your word")
        if self.snapshot and self.snapshot.dead:
            calls.append(f"{self.snapshot.dead} dead letters")
        return calls
