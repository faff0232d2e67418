"""A mind that needs nothing: it works from the role's keywords, responsibilities and concerns. Labelled as rules."""

from __future__ import annotations

import re
from collections.abc import Sequence

from echo_core.minds.protocol import Action, Contribution, Dissent, Judgement, Outcome, Position, Question, Tally, Vote
from echo_core.minds.relevance import mentions, relevance, stance_for, stems
from echo_core.organisation import Concern, Organisation, Role

# What speaks against or for going ahead whoever is asked, with its weight.
RISKS = {
    "without test": 0.7, "skip test": 0.7, "no test": 0.6, "without rollback": 0.7, "no rollback": 0.7, "irreversible": 0.5,
    "without review": 0.5, "skip review": 0.5, "lay off": 0.5, "layoff": 0.5, "overtime": 0.4, "all at once": 0.4,
    "big bang": 0.4, "in one go": 0.3, "tomorrow": 0.4, "friday": 0.3, "immediately": 0.3, "untested": 0.5, "ban": 0.2,
    "delete": 0.3, "without asking": 0.4, "without telling": 0.6, "secretly": 0.7, "monitor employee": 0.6,
}  # fmt: skip
CHANCES = {
    "pilot": 0.3, "trial": 0.3, "step by step": 0.3, "gradual": 0.3, "gradually": 0.3, "rollback": 0.2, "tested": 0.2,
    "measure": 0.2, "save": 0.15, "improve": 0.15, "customers ask": 0.3, "reversible": 0.3,
    "budgeted": 0.2, "experiment": 0.2,
}  # fmt: skip

_MONEY = re.compile(
    r"(?:\$|USD\s?|US\$)\s?(\d[\d,]*(?:\.\d+)?)\s?(k|m|thousand|million)?\b"
    r"|(\d[\d,]*(?:\.\d+)?)\s?(k|m|thousand|million)?\s?(?:USD|dollars)\b",
    re.IGNORECASE,
)
_FIGURE = re.compile(
    r"\b\d+(?:[.,]\d+)?\s?(?:%|percent|people|days?|weeks?|months?|years?|engineers?|hours?)", re.IGNORECASE
)
_SCALE = {"k": 1e3, "thousand": 1e3, "m": 1e6, "million": 1e6}


def amounts_usd(text: str) -> list[float]:
    """The amounts in US dollars a text names: "$250k", "1.2 million USD"."""
    found = []
    for before, scale_before, after, scale_after in _MONEY.findall(text):
        number = (before or after).replace(",", "")
        found.append(float(number) * _SCALE.get((scale_before or scale_after).lower(), 1.0))
    return found


class RuleMind:
    """The four verbs from keywords and concerns. The same question gives the same answer."""

    label = "rules"

    def __init__(self, role: Role, organisation: Organisation) -> None:
        self.role = role
        self.organisation = organisation

    async def judge(self, question: Question) -> Judgement:
        found = relevance(self.role.keywords, question.text)
        stance = stance_for(found.score)
        if found.matched:
            reasoning = f"the question speaks of {_listed(found.matched[:3])}"
        else:
            reasoning = f"nothing in it touches {_listed(self.role.responsibilities[:2]) or 'this role'}"
        return Judgement(source="keywords", stance=stance, confidence=found.score, reasoning=reasoning)

    async def contribute(self, question: Question, round_number: int, heard: Sequence[Contribution]) -> Contribution:
        lean, reasons = self._lean(question)
        position: Position = "for" if lean > 0.1 else "against" if lean < -0.25 else "conditional"
        if round_number > 1:
            return self._reaction(question, round_number, heard, position)
        concerns = self._concerns(question)
        asked = [f"{_mention(concern, question)}: {concern.asks}" for concern in concerns[:2]]
        proposals = [concern.proposal for concern in concerns[:2] if concern.proposal]
        duty = self.role.responsibilities[0] if self.role.responsibilities else self.role.title
        opening = {
            "for": f"As {self.role.title} I am in favour",
            "against": f"As {self.role.title} I am against it as it stands",
            "conditional": f"As {self.role.title} I can support it on conditions",
        }[position]
        sentences = [f"{opening}{_because(reasons)}."]
        if asked:
            sentences.append(f"What I need answered on {'; on '.join(asked)}.")
        else:
            sentences.append(f"From the side of {duty} I see nothing in it that must be settled first.")
        if figures := _figures(question.text):
            sentences.append(f"The {'figures' if len(figures) > 1 else 'figure'} to hold it against: {_listed(figures)}.")
        if proposals:
            sentences.append(f"I offer to {' and to '.join(proposals)}.")
        return Contribution(
            role=self.role.role,
            round=round_number,
            text=" ".join(sentences),
            position=position,
            concerns=asked,
            proposals=proposals,
        )

    async def vote(self, question: Question, heard: Sequence[Contribution]) -> Vote:
        lean, reasons = self._lean(question)
        if limit := self._beyond_authority(question):
            reasons = [*reasons, limit]
        own = relevance(self.role.keywords, question.text).score
        # Proposals on the table answer some of the worry: each one made by somebody else eases it a little.
        others = [item for item in heard if item.role != self.role.role]
        eased = min(0.15, 0.04 * sum(len(item.proposals) for item in others))
        if lean + eased < -0.25:
            return Vote(
                role=self.role.role,
                vote="reject",
                confidence=_bounded(0.55 + abs(lean) / 2),
                rationale=f"{self._worry(question, reasons)} Until that is settled I vote against.",
            )
        if own <= 0.2 and not reasons:
            return Vote(
                role=self.role.role, vote="abstain", confidence=0.5, rationale="It does not touch what I answer for."
            )
        concerns = self._concerns(question)
        if concerns and concerns[0].proposal:
            rationale = f"I vote for it, provided we {concerns[0].proposal}."
        else:
            rationale = f"I vote for it{_because(reasons)}."
        return Vote(
            role=self.role.role,
            vote="approve",
            confidence=_bounded(0.55 + own / 4 + max(0.0, lean) / 3),
            rationale=rationale,
        )

    async def synthesise(
        self, question: Question, heard: Sequence[Contribution], votes: Sequence[Vote], tally: Tally
    ) -> Outcome:
        last = {vote.role: vote for vote in votes}
        return Outcome(
            summary=verdict_line(question, tally),
            rationale=self._rationale(heard, last, tally),
            actions=self._actions(heard, tally),
            dissent=dissent_of(votes, tally),
        )

    # -- the pieces ----------------------------------------------------------------------------------------------------

    def _concerns(self, question: Question) -> list[Concern]:
        found = stems(question.text)
        return [concern for concern in self.role.concerns if any(mentions(found, word) for word in concern.words)]

    def _lean(self, question: Question) -> tuple[float, list[str]]:
        """Below 0 is against. Risks everybody sees, chances, and the alarms of this role's own concerns."""
        found = stems(question.text)
        risks = {word: weight for word, weight in RISKS.items() if mentions(found, word)}
        chances = {word: weight for word, weight in CHANCES.items() if mentions(found, word)}
        alarms = [concern for concern in self._concerns(question) if concern.alarm]
        lean = 0.15 + sum(chances.values()) - 0.5 * sum(risks.values()) - sum(concern.alarm for concern in alarms)
        if lean < 0:
            strongest = sorted(risks, key=lambda word: -risks[word])[:2]
            return max(-1.0, lean), [f"“{word}” in the question worries me" for word in strongest[:1]]
        strongest = sorted(chances, key=lambda word: -chances[word])[:1]
        return min(1.0, lean), [f"“{word}” lets us learn before it is dear" for word in strongest]

    def _worry(self, question: Question, reasons: Sequence[str]) -> str:
        concerns = sorted(self._concerns(question), key=lambda concern: -concern.alarm)
        if concerns:
            return f"Nobody has answered {concerns[0].asks}."
        return f"{reasons[0][0].upper()}{reasons[0][1:]}." if reasons else "The risk is larger than the gain."

    def _beyond_authority(self, question: Question) -> str:
        limit = self.role.authority_limit_usd
        largest = max(amounts_usd(question.text), default=0.0)
        return f"${largest:,.0f} is beyond what I may spend" if limit is not None and largest > limit else ""

    def _reaction(
        self, question: Question, round_number: int, heard: Sequence[Contribution], position: Position
    ) -> Contribution:
        others = [item for item in heard if item.role != self.role.role and item.round == round_number - 1]
        mine = {concern.asks for concern in self._concerns(question)}
        opposed = [item for item in others if item.position == "against"]
        offers = [(item, proposal) for item in others for proposal in item.proposals]
        parts: list[str] = []
        if opposed and position != "against":
            parts.append(f"I take the objection of {_listed([self._title(item.role) for item in opposed])} seriously")
        elif opposed:
            verb = "objects" if len(opposed) == 1 else "object"
            parts.append(f"I am not alone: {_listed([self._title(item.role) for item in opposed])} {verb} as well")
        if offers:
            item, proposal = offers[sum(map(ord, self.role.role)) % len(offers)]
            parts.append(f"the offer of {self._title(item.role)} to {proposal} should come first")
        if mine:
            parts.append(f"my own question stays open: {self._concerns(question)[0].asks}")
        if not parts:
            parts.append("I have nothing to add")
        text = "; ".join(parts)
        return Contribution(
            role=self.role.role,
            round=round_number,
            text=f"{text[0].upper()}{text[1:]}.",
            position=position,
            nothing_new=round_number > 2 or not (offers or opposed),
        )

    def _rationale(self, heard: Sequence[Contribution], votes: dict[str, Vote], tally: Tally) -> str:
        wanted = {"approved": "approve", "rejected": "reject"}.get(tally.verdict)
        deciding = sorted(
            (vote for vote in votes.values() if wanted in (None, vote.vote) and vote.vote != "abstain"),
            key=lambda vote: -vote.confidence,
        )
        parts = [f"{_capital(self._title(vote.role))}: {vote.rationale}" for vote in deciding[:3]]
        if not tally.quorum_reached:
            parts.insert(0, "The quorum was not reached.")
        asked = [concern for item in heard if item.round == 1 for concern in item.concerns]
        if asked:
            parts.append(f"The question that came up first was {asked[0].split(': ', 1)[-1]}.")
        return " ".join(parts) or "Nobody took a position."

    def _actions(self, heard: Sequence[Contribution], tally: Tally) -> list[Action]:
        due = "before any other step" if tally.verdict == "approved" else "before it is asked again"
        seen: dict[str, Action] = {}
        for item in heard:
            for proposal in item.proposals:
                seen.setdefault(
                    proposal, Action(what=_capital(proposal), owner=item.role, due=due if not seen else "within 2 weeks")
                )
        return list(seen.values())[:6]

    def _title(self, role: str) -> str:
        known = self.organisation.roles.get(role)
        return f"the {known.title}" if known else f"the {role.replace('_', ' ')}"


def verdict_line(question: Question, tally: Tally) -> str:
    """The verdict as the first sentence of an outcome, whoever writes the rest: it comes from the count alone."""
    score = "without a count" if tally.score is None else f"with {tally.score:.0%} of the weighted votes for it"
    subject = question.subject.strip().rstrip("?.! ")
    return {
        "approved": f"We go ahead with “{subject}”, {score}.",
        "rejected": f"We do not go ahead with “{subject}”: it ended {score}.",
        "no consensus": f"We could not agree on “{subject}”: it ended {score}, and {tally.threshold:.0%} were needed.",
        "no quorum": f"Too few voted on “{subject}” for a decision; it goes to the operator.",
    }[tally.verdict]


def dissent_of(votes: Sequence[Vote], tally: Tally) -> list[Dissent]:
    """Who voted against the verdict (against the proposal, when there is none), each with the last reason they gave."""
    other = "approve" if tally.verdict == "rejected" else "reject"
    last = {vote.role: vote for vote in votes}
    return [Dissent(role=vote.role, text=vote.rationale) for vote in last.values() if vote.vote == other]


def _mention(concern: Concern, question: Question) -> str:
    """The concern's word as the question has it."""
    found = stems(question.text)
    return next(word for word in concern.words if mentions(found, word))


def _figures(text: str) -> list[str]:
    money = [match.group(0).strip() for match in _MONEY.finditer(text)]
    return list(dict.fromkeys([*money, *(match.group(0) for match in _FIGURE.finditer(text))]))[:3]


def _because(reasons: Sequence[str]) -> str:
    return f": {reasons[0]}" if reasons else ""


def _listed(items: Sequence[str]) -> str:
    return ", ".join(items[:-1]) + f" and {items[-1]}" if len(items) > 1 else "".join(items)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _bounded(value: float) -> float:
    return round(min(0.95, max(0.05, value)), 2)
