"""A mind that needs nothing: it works from the role's keywords, responsibilities and concerns. Labelled as rules."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from echo_core.minds.factors import (
    CHANCES,
    RISKS,
    amounts_usd,
    figures,
    found,
    largest_spending,
    mentions,
)
from echo_core.minds.protocol import Action, Contribution, Dissent, Judgement, Outcome, Position, Question, Tally, Vote
from echo_core.minds.relevance import CLEARLY_IRRELEVANT, Text, read_text, relevance, stance_for
from echo_core.organisation import Concern, Organisation, Role

__all__ = ["RuleMind", "amounts_usd", "dissent_of", "verdict_line"]

BENEFIT_OF_THE_DOUBT = 0.15  # a proposal with nothing for or against it is tried
PER_QUESTION = 0.05  # each open question of the role takes some of it away
FOR, AGAINST = 0.1, -0.25  # from here a position is for, and below here against
_INNER_QUOTES = str.maketrans("“”", "‘’")
_OPEN = ("which", "what", "how", "who", "whom", "whose", "when", "where", "why")
_NOT_YES_OR_NO = "This asks for an answer, not for a yes or no: rules can't find one, a model or a person can."
MOST_EASING = 0.15  # what others offer to do answers some of a worry, never a large one


class RuleMind:
    """The four verbs from keywords and concerns. The same question gives the same answer."""

    label = "rules"

    def __init__(self, role: Role, organisation: Organisation) -> None:
        self.role = role
        self.organisation = organisation

    async def judge(self, question: Question) -> Judgement:
        score = relevance(self.role.keywords, question.text).score
        if spoken := self._spoken_of(question):
            reasoning = f"it speaks of {_listed(spoken)}"
        else:
            reasoning = f"nothing in it touches {_listed(self.role.responsibilities[:2], 'or') or 'this role'}"
        return Judgement(source="keywords", stance=stance_for(score), confidence=score, reasoning=reasoning)

    async def contribute(self, question: Question, round_number: int, heard: Sequence[Contribution]) -> Contribution:
        view = _View(self.role, question, heard)
        if _asks_openly(question):
            return self._about_an_open_question(view, round_number)
        if round_number > 1:
            return self._reaction(question, view, round_number, heard)
        if view.untouched:
            text = (
                f"Nothing in it touches what I answer for ({_listed(self.role.responsibilities[:2])});"
                " I leave it to those it concerns."
            )
            return Contribution(role=self.role.role, round=round_number, text=text)
        asks = [concern.asks for _, concern in view.concerns[:2]]
        opening = {
            "for": "I am in favour",
            "against": "I am against it as it stands",
            "conditional": "I can go along with it on conditions" if asks else "I can go along with it",
        }[view.position]
        sentences = [f"{opening}{view.because}."]
        if asks:
            lead = "Nobody has said" if view.position == "against" else "What I need to know first:"
            sentences.append(f"{lead} {'; nor '.join(asks) if view.position == 'against' else '; '.join(asks)}.")
        elif view.position != "against":
            about = _listed(self._spoken_of(question)[:2])
            sentences.append(f"On {about or 'my side of it'} I see nothing that must be settled first.")
        if limit := self._beyond_authority(question):
            sentences.append(f"{limit[0].upper()}{limit[1:]}.")
        elif stance_for(view.relevance) == "lead" and (numbers := figures(question.text)):
            sentences.append(f"I would hold us to the figure{'s' if len(numbers) > 1 else ''} in it: {_listed(numbers)}.")
        if view.proposals:
            sentences.append(f"I offer to {'; and to '.join(view.proposals)}.")
        return Contribution(
            role=self.role.role,
            round=round_number,
            text=" ".join(sentences),
            position=view.position,
            concerns=[f"{quoted}: {concern.asks}" for quoted, concern in view.concerns[:2]],
            proposals=view.proposals,
        )

    async def vote(self, question: Question, heard: Sequence[Contribution]) -> Vote:
        view = _View(self.role, question, heard)
        limit = self._beyond_authority(question)
        if _asks_openly(question):
            return Vote(role=self.role.role, vote="abstain", confidence=0.5, rationale=_NOT_YES_OR_NO)
        if view.untouched and not limit:
            return Vote(
                role=self.role.role, vote="abstain", confidence=0.5, rationale="It does not touch what I answer for."
            )
        offers = sum(len(item.proposals) for item in heard if item.role != self.role.role)
        eased = min(MOST_EASING, 0.03 * offers)
        concern = view.concerns[0][1] if view.concerns else None
        if view.lean + eased < AGAINST:
            why = f"Nobody has said {concern.asks}" if concern else _sentence(view.reason)
            reason = f" Also, {view.reason}." if concern and view.reason else ""
            return Vote(
                role=self.role.role,
                vote="reject",
                confidence=_bounded(0.55 + abs(view.lean) / 2),
                rationale=f"I vote against it: {_small(why)}.{reason}",
            )
        won_over = "What the others offer answers enough of my worry: " if view.position == "against" else ""
        if concern and concern.proposal:
            rationale = f"{won_over}I vote for it, provided we {concern.proposal}."
        else:
            rationale = f"{won_over}I vote for it{view.because}."
        confidence = 0.55 + view.relevance / 4 + max(0.0, view.lean) / 3
        if limit:
            rationale, confidence = f"{rationale} {_sentence(limit)}.", confidence - 0.1
        return Vote(
            role=self.role.role,
            vote="approve",
            confidence=_bounded(confidence - (0.15 if won_over else 0.0)),
            rationale=rationale[:1].upper() + rationale[1:],
        )

    async def synthesise(
        self, question: Question, heard: Sequence[Contribution], votes: Sequence[Vote], tally: Tally
    ) -> Outcome:
        actions = self._actions(heard, tally)
        first = ""
        if actions:
            owner, what = self._title(actions[0].owner), _small(actions[0].what)
            first = f" {owner[0].upper()}{owner[1:]} begins: {what}." if tally.verdict == "approved" else ""
        return Outcome(
            summary=verdict_line(question, tally) + first,
            rationale=self._rationale(heard, {vote.role: vote for vote in votes}, tally),
            actions=actions,
            dissent=dissent_of(votes, tally),
        )

    def _about_an_open_question(self, view: _View, round_number: int) -> Contribution:
        """Rules weigh a proposal; they can't find an answer, and say so instead of pretending to agree."""
        asks = [concern.asks for _, concern in view.concerns[:2]]
        look = f" What I would want to know: {'; '.join(asks)}." if asks and round_number == 1 else ""
        return Contribution(
            role=self.role.role,
            round=round_number,
            text=_NOT_YES_OR_NO + look,
            concerns=[f"{quoted}: {concern.asks}" for quoted, concern in view.concerns[:2]],
            nothing_new=round_number > 1,
        )

    # -- the pieces ----------------------------------------------------------------------------------------------------

    def _spoken_of(self, question: Question) -> list[str]:
        """Up to three of the role's keywords, as the question writes them."""
        text = read_text(question.text)
        matched = relevance(self.role.keywords, question.text).matched
        places = [(word, text.find(word)) for word in matched]
        return list(dict.fromkeys(text.quoted(word, at) for word, at in places if at is not None))[:3]

    def _beyond_authority(self, question: Question) -> str:
        limit = self.role.authority_limit_usd
        amount, written = largest_spending(question.text)
        if limit is None or amount <= limit:
            return ""
        above = self._title(self.role.reports_to) if self.role.reports_to else "the operator"
        return f"{written} is more than the ${limit:,.0f} I may commit, so {above} has to agree"

    def _reaction(self, question: Question, view: _View, round_number: int, heard: Sequence[Contribution]) -> Contribution:
        others = [item for item in heard if item.role not in (self.role.role, "operator") and item.round == round_number - 1]
        against = [self._title(item.role) for item in others if item.position == "against"]
        offers = [(item.role, proposal) for item in others for proposal in item.proposals]
        sentences: list[str] = []
        if any(item.role == "operator" for item in heard):
            sentences.append("I have taken in what the operator said.")
        if against and view.position == "against":
            sentences.append(f"{_sentence(_listed(against))} {'are' if len(against) > 1 else 'is'} against it too.")
        elif against:
            sentences.append(f"I take seriously that {_listed(against)} {'are' if len(against) > 1 else 'is'} against it.")
        asks = view.concerns[0][1].asks if view.concerns else ""
        if offers:
            who, proposal = offers[zlib.crc32(f"{self.role.role}{question.subject}".encode()) % len(offers)]
            offer = f"{self._title(who)}'s offer to {proposal}"
            if view.position == "against" and asks:
                sentences.append(f"Even with {offer}, nobody has said {asks}.")
            elif asks:
                sentences.append(f"{_sentence(offer)} helps; what stays open for me is {asks}.")
            else:
                sentences.append(f"{_sentence(offer)} is a good first step.")
        elif asks:
            sentences.append(f"What stays open for me is {asks}.")
        if not sentences:
            sentences.append("I have nothing to add.")
        return Contribution(
            role=self.role.role,
            round=round_number,
            text=" ".join(sentences),
            position=view.position,
            nothing_new=round_number > 2 or not (offers or against),
        )

    def _rationale(self, heard: Sequence[Contribution], votes: dict[str, Vote], tally: Tally) -> str:
        wanted = {"approved": "approve", "rejected": "reject"}.get(tally.verdict)
        deciding = sorted(
            (vote for vote in votes.values() if wanted in (None, vote.vote) and vote.vote != "abstain"),
            key=lambda vote: -vote.confidence,
        )
        parts = [f"{_sentence(self._title(vote.role))}: “{_quotable(vote.rationale)}”" for vote in deciding[:3]]
        if not tally.quorum_reached:
            parts.insert(0, "Too few voted for or against it.")
        asked: dict[str, str] = {}  # one question of each role
        for item in heard:
            if item.concerns and item.round == 1:
                asked.setdefault(item.role, item.concerns[0].split("”: ", 1)[-1].rstrip(".?! "))
        if asked:
            parts.append(f"Still to be answered: {'; '.join(list(asked.values())[:3])}.")
        return " ".join(parts) or "Nobody took a position."

    def _actions(self, heard: Sequence[Contribution], tally: Tally) -> list[Action]:
        offered: dict[str, str] = {}
        for item in heard:
            for proposal in item.proposals:
                if item.role in self.organisation.roles:
                    offered.setdefault(proposal, item.role)
        approved = tally.verdict == "approved"
        return [
            Action(
                what=_sentence(proposal),
                owner=owner,
                due=("before any other step" if not number else "within 2 weeks")
                if approved
                else "before it is asked again",
            )
            for number, (proposal, owner) in enumerate(list(offered.items())[:6])
        ]

    def _title(self, role: str) -> str:
        known = self.organisation.roles.get(role)
        return f"the {known.title}" if known else f"the {role.replace('_', ' ')}"


class _View:
    """How a role sees a question: what of it concerns it, and where that leans. What the operator said counts too."""

    def __init__(self, role: Role, question: Question, heard: Sequence[Contribution]) -> None:
        said = [item.text for item in heard if item.role == "operator"]
        text = read_text("\n".join([question.text, *said]))
        risks, chances = found(RISKS, text), found(CHANCES, text)
        self.relevance = relevance(role.keywords, question.text).score
        self.concerns = _concerns(role, text)
        self.proposals = [concern.proposal for _, concern in self.concerns[:2] if concern.proposal]
        lean = (
            BENEFIT_OF_THE_DOUBT
            + sum(chance.weight for chance in chances)
            - 0.5 * sum(risk.weight for risk in risks)
            - sum(concern.alarm for _, concern in self.concerns)
            - PER_QUESTION * min(2, len(self.concerns))
        )
        self.lean = max(-1.0, min(1.0, lean))
        self.position: Position = "for" if lean >= FOR else "against" if lean < AGAINST else "conditional"
        self.spoken_against = self.lean < FOR
        speaking = risks if self.spoken_against else chances
        self.reason = speaking[0].reason if speaking else ""
        self.untouched = self.relevance <= CLEARLY_IRRELEVANT and not self.concerns and self.position != "against"
        if self.untouched:
            self.position = "conditional"

    @property
    def because(self) -> str:
        """How a sentence about the position goes on."""
        if not self.reason:
            return ""
        return f", although {self.reason}" if self.spoken_against and self.position != "against" else f": {self.reason}"


def verdict_line(question: Question, tally: Tally) -> str:
    """The verdict as the first sentence of an outcome, whoever writes the rest: it comes from the count alone."""
    share = "" if tally.score is None else f"{tally.score:.0%} of the weighted votes for it"
    verdict = {
        "approved": f"Approved, with {share}",
        "rejected": f"Rejected, with {share}",
        "no consensus": f"No consensus, with {share} and {tally.threshold:.0%} needed",
        "no quorum": "Too few voted for or against, so it goes to the operator",
    }[tally.verdict]
    subject = question.subject.strip()
    return f"{verdict}: “{subject}”" + ("" if subject.endswith(("?", "!", ".")) else ".")


def dissent_of(votes: Sequence[Vote], tally: Tally) -> list[Dissent]:
    """Who voted against the verdict (against the proposal, when there is none), each with the last reason they gave."""
    other = "approve" if tally.verdict == "rejected" else "reject"
    last = {vote.role: vote for vote in votes}
    return [Dissent(role=vote.role, text=vote.rationale) for vote in last.values() if vote.vote == other]


def _concerns(role: Role, text: Text) -> list[tuple[str, Concern]]:
    """Each with its word as the text has it, the most alarming first, then in the order of the organisation file."""
    hits = []
    for concern in role.concerns:
        word, at = next(((word, at) for word in concern.words if (at := mentions(text, word)) is not None), ("", None))
        if at is not None:
            hits.append((text.quoted(word, at), concern))
    return sorted(hits, key=lambda hit: -hit[1].alarm)


def _listed(items: Sequence[str], last: str = "and") -> str:
    return ", ".join(items[:-1]) + f" {last} {items[-1]}" if len(items) > 1 else "".join(items)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _small(text: str) -> str:
    """For the middle of a sentence; a word in capitals stays one."""
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


def _quotable(text: str) -> str:
    return text.translate(_INNER_QUOTES)


def _bounded(value: float) -> float:
    return round(min(0.95, max(0.05, value)), 2)


def _asks_openly(question: Question) -> bool:
    """Whether the subject asks which, what or how, so that nothing in it could be approved."""
    first, _, rest = question.subject.strip().partition(" ")
    return bool(rest) and first.lower() in _OPEN
