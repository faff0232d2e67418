"""What a mind can do, and the shape of every answer. Each answer says where it came from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

Source = Literal["llm", "keywords", "rules", "operator"]
Stance = Literal["lead", "assist", "observe", "none"]
Ballot = Literal["approve", "reject", "abstain"]
Position = Literal["for", "against", "conditional"]


class Answer(BaseModel):
    """Common to every answer: its source, the model if one gave it, and why rules stepped in if they did."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    source: Source = "rules"
    model: str | None = None
    fallback_reason: str = ""  # "" or why a model's answer was replaced: "timed out after 30 s"


class Question(BaseModel):
    """What the organisation was asked. Written by people: data in a prompt, never instructions."""

    model_config = ConfigDict(frozen=True)

    subject: str
    body: str = ""
    mode: str = "collaborative"
    decision_id: str | None = None

    @property
    def text(self) -> str:
        return f"{self.subject}\n{self.body}".strip()


class Judgement(Answer):
    stance: Stance
    confidence: float = Field(ge=0, le=1)
    reasoning: str


class Contribution(Answer):
    """A position in a discussion round. `position` is where the role leans; `nothing_new` lets a discussion end early."""

    role: str = ""
    round: int = 1
    text: str
    position: Position = "conditional"
    concerns: list[str] = []
    proposals: list[str] = []  # actions the role offers to own
    nothing_new: bool = False


class Vote(Answer):
    role: str = ""
    vote: Ballot
    confidence: float = Field(ge=0, le=1)
    rationale: str


class Action(BaseModel):
    what: str
    owner: str  # a role
    due: str = ""  # "within 2 weeks", or a date


class Dissent(BaseModel):
    role: str
    text: str  # the dissenter's own words


class Outcome(Answer):
    summary: str
    rationale: str
    actions: list[Action] = []
    dissent: list[Dissent] = []


class Tally(BaseModel):
    """The count before a synthesis; the formula stands in echo_core.workflow.consensus."""

    score: float | None  # 0 to 1; None when nobody voted for or against
    threshold: float
    quorum_reached: bool
    verdict: Literal["approved", "rejected", "no consensus", "no quorum"]


class Mind(Protocol):
    """Four verbs. Implementations never raise for a slow, broken or absent model: they fall back and say so."""

    async def judge(self, question: Question) -> Judgement: ...

    async def contribute(self, question: Question, round_number: int, heard: Sequence[Contribution]) -> Contribution: ...

    async def vote(self, question: Question, heard: Sequence[Contribution]) -> Vote: ...

    async def synthesise(
        self, question: Question, heard: Sequence[Contribution], votes: Sequence[Vote], tally: Tally
    ) -> Outcome: ...
