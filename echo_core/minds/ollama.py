"""A mind that thinks with a model of an Ollama server, and with rules whenever that gives nothing usable."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from echo_core.health.breaker import CircuitBreaker
from echo_core.minds.calls import CallLimits, ModelCall, ModelCaller, NoAnswer
from echo_core.minds.drafts import ContributionDraft, D, JudgementDraft, OutcomeDraft, VoteDraft
from echo_core.minds.prompts import (
    Fence,
    contribute_prompt,
    judge_prompt,
    synthesis_prompt,
    system_prompt,
    vote_prompt,
)
from echo_core.minds.protocol import Action, Contribution, Judgement, Outcome, Question, Tally, Vote
from echo_core.minds.relevance import CLEARLY_IRRELEVANT, CLEARLY_RELEVANT
from echo_core.minds.rules import RuleMind, dissent_of, verdict_line
from echo_core.organisation import Organisation, PhaseLimits, Role

# Of a phase's limit: rules still have to answer in time. Most of it may go to one answer, for several agents share one
# server that thinks for one at a time, and waiting for one's turn looks like thinking.
ANSWER_SHARE = 0.75
TOTAL_SHARE = 0.85
MAXIMUM_SECONDS = 600.0  # well below the longest that a message may be in hand
JUDGE_TOKENS, CONTRIBUTE_TOKENS, VOTE_TOKENS, SYNTHESIS_TOKENS = 250, 600, 300, 1_400


def limits_of(phase_seconds: float) -> CallLimits:
    """How long a call may take whose answer a phase waits for."""
    total = min(phase_seconds * TOTAL_SHARE, MAXIMUM_SECONDS)
    return CallLimits(answer=min(phase_seconds * ANSWER_SHARE, total), total=total)


class OllamaMind:
    """Never raises for a slow, broken or absent model: the answer then comes from rules and `fallback_reason` says why.

    `limits` replaces the limits that follow from the organisation's phases.
    """

    def __init__(
        self,
        role: Role,
        organisation: Organisation,
        host: str,
        model: str,
        rules: RuleMind,
        record: Callable[[ModelCall], None] | None = None,
        *,
        breaker: CircuitBreaker | None = None,
        limits: CallLimits | None = None,
    ) -> None:
        self.role = role
        self.organisation = organisation
        self.label = model
        self._rules = rules
        self._limits = limits
        self._caller = ModelCaller(host, model, record, breaker=breaker)

    @property
    def breaker(self) -> CircuitBreaker:
        return self._caller.breaker

    @property
    def gone(self) -> bool:
        """Whether the server or the model turned out not to be there."""
        return self._caller.gone

    async def close(self) -> None:
        await self._caller.close()

    async def judge(self, question: Question) -> Judgement:
        """Keywords decide what is clear; the model is asked only in between."""
        by_keywords = await self._rules.judge(question)
        if not CLEARLY_IRRELEVANT < by_keywords.confidence < CLEARLY_RELEVANT:
            return by_keywords
        fence = Fence(question.text)
        prompt = judge_prompt(question, fence)
        try:
            draft = await self._ask(JudgementDraft, "judge", prompt, fence, self._phases.self_selection, JUDGE_TOKENS)
        except NoAnswer as failure:
            return by_keywords.model_copy(update={"fallback_reason": failure.reason})
        return Judgement(
            source="llm",
            model=self.label,
            stance=draft.stance,
            confidence=round(draft.confidence, 2),
            reasoning=draft.reasoning,
        )

    async def contribute(self, question: Question, round_number: int, heard: Sequence[Contribution]) -> Contribution:
        fence = _fence_for(question, heard)
        prompt = contribute_prompt(question, round_number, heard, fence)
        try:
            draft = await self._ask(
                ContributionDraft, "contribute", prompt, fence, self._phases.discussion, CONTRIBUTE_TOKENS
            )
        except NoAnswer as failure:
            answer = await self._rules.contribute(question, round_number, heard)
            return answer.model_copy(update={"fallback_reason": failure.reason})
        return Contribution(
            source="llm",
            model=self.label,
            role=self.role.role,
            round=round_number,
            text=draft.text,
            position=draft.position,
            concerns=draft.concerns,
            proposals=draft.proposals,
            nothing_new=draft.nothing_new and round_number > 1,
        )

    async def vote(self, question: Question, heard: Sequence[Contribution]) -> Vote:
        fence = _fence_for(question, heard)
        try:
            draft = await self._ask(
                VoteDraft, "vote", vote_prompt(question, heard, fence), fence, self._phases.consensus, VOTE_TOKENS
            )
        except NoAnswer as failure:
            answer = await self._rules.vote(question, heard)
            return answer.model_copy(update={"fallback_reason": failure.reason})
        return Vote(
            source="llm",
            model=self.label,
            role=self.role.role,
            vote=draft.vote,
            confidence=round(draft.confidence, 2),
            rationale=draft.rationale,
        )

    async def synthesise(
        self, question: Question, heard: Sequence[Contribution], votes: Sequence[Vote], tally: Tally
    ) -> Outcome:
        """The verdict is the tally's and leads the summary; the dissent is the dissenters' own. The rest is the model's."""
        fence = _fence_for(question, [*heard, *votes])
        roles = list(self.organisation.roles)
        prompt = synthesis_prompt(question, heard, votes, tally, roles, fence)
        try:
            draft = await self._ask(
                OutcomeDraft, "synthesise", prompt, fence, self._phases.synthesis, SYNTHESIS_TOKENS, roles
            )
        except NoAnswer as failure:
            answer = await self._rules.synthesise(question, heard, votes, tally)
            return answer.model_copy(update={"fallback_reason": failure.reason})
        return Outcome(
            source="llm",
            model=self.label,
            summary=f"{verdict_line(question, tally)} {draft.summary}",
            rationale=draft.rationale,
            actions=[Action(what=item.what, owner=self._owner(item.owner), due=item.due) for item in draft.actions],
            dissent=dissent_of(votes, tally),
        )

    @property
    def _phases(self) -> PhaseLimits:
        return self.organisation.limits

    async def _ask(
        self,
        draft: type[D],
        purpose: str,
        prompt: str,
        fence: Fence,
        phase_seconds: float,
        tokens: int,
        roles: Sequence[str] = (),
    ) -> D:
        messages = [
            {"role": "system", "content": system_prompt(self.role, self.organisation, fence)},
            {"role": "user", "content": prompt},
        ]
        limits = self._limits or limits_of(phase_seconds)
        return await self._caller.ask(draft, purpose, messages, limits, tokens=tokens, roles=roles)

    def _owner(self, named: str) -> str:
        """The role a model meant by "CTO" or "the senior architect"; whoever leads, when that is nobody."""
        wanted = named.strip().lower().removeprefix("the ").replace("_", " ").replace("-", " ")
        for role in self.organisation.roles.values():
            if wanted in (role.role.replace("_", " "), role.title.lower().replace("-", " ")):
                return role.role
        return self.organisation.leader.role


def _fence_for(question: Question, said: Sequence[Contribution | Vote]) -> Fence:
    return Fence(question.text, *(item.model_dump_json() for item in said))
