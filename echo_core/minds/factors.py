"""What speaks for or against going ahead whoever is asked: phrases of a question, and what they mean in a sentence."""

from __future__ import annotations

import re
from dataclasses import dataclass

from echo_core.minds.relevance import Text, stem

_NEGATIONS = frozenset(
    stem(word) for word in ("no", "not", "without", "never", "avoid", "instead", "nobody", "don't", "won't")
)


@dataclass(frozen=True, slots=True)
class Factor:
    """`says` ends a sentence that begins with "because" or stands alone; {} is the phrase as the question has it."""

    says: str
    phrases: dict[str, float]


@dataclass(frozen=True, slots=True)
class Found:
    weight: float
    reason: str


RISKS = (
    Factor(
        "it would go out with nobody having checked it ({})",
        {
            "without test": 0.7, "skip test": 0.7, "skip the test": 0.7, "no test": 0.6, "untested": 0.5,
            "without review": 0.5, "skip review": 0.5, "skip the review": 0.5, "no review": 0.5,
        },
    ),
    Factor(
        "there is no way back ({})",
        {
            "without rollback": 0.7, "without a rollback": 0.7, "no rollback": 0.7, "no way back": 0.7,
            "without a way back": 0.7, "irreversible": 0.5, "cannot be undone": 0.5, "can't be undone": 0.5, "delete": 0.3,
        },
    ),
    Factor(
        "what is gone then can't be brought back ({})",  # heavier than anything others could offer against it
        {"without a backup": 1.2, "without backup": 1.2, "no backup": 1.2, "delete all": 0.8, "delete every": 0.8},
    ),
    Factor("everything would change at one stroke ({})", {"all at once": 0.4, "big bang": 0.4, "in one go": 0.4}),
    Factor(
        "people would pay for it ({})",
        {"lay off": 0.5, "layoff": 0.5, "overtime": 0.4, "monitor employee": 0.6, "cut salary": 0.5, "pay cut": 0.5},
    ),
    Factor(
        "the date leaves no room for a mistake ({})",
        {
            "tomorrow": 0.4, "immediately": 0.3, "friday night": 0.4, "friday evening": 0.4, "friday afternoon": 0.3,
            "by friday": 0.3, "on friday": 0.2, "over the weekend": 0.3, "as soon as possible": 0.2, "asap": 0.2,
        },
    ),
    Factor("it would be done behind people's backs ({})", {"secretly": 0.7, "without telling": 0.6, "without asking": 0.4}),
    Factor(
        "those who must have a say have not had it ({})",
        {"not been asked": 0.4, "not been reviewed": 0.4, "nobody has asked": 0.4, "nobody asked": 0.4},
    ),
)  # fmt: skip

CHANCES = (
    Factor(
        "it starts small enough to stop ({})",
        {
            "pilot": 0.3, "trial": 0.3, "step by step": 0.3, "gradual": 0.3, "gradually": 0.3, "experiment": 0.2,
            "in stages": 0.3, "one team first": 0.3, "prototype": 0.2, "phased": 0.2,
        },
    ),
    Factor("there is a way back ({})", {"rollback": 0.2, "roll back": 0.2, "way back": 0.2, "reversible": 0.3}),
    Factor(
        "the groundwork is done ({})",
        {"already tested": 0.2, "been tested": 0.2, "rehearsed": 0.2, "within budget": 0.2, "in the budget": 0.2},
    ),
    Factor("there is a gain that can be checked ({})", {"save": 0.15, "improve": 0.15, "customers ask": 0.3}),
)  # fmt: skip

_MONEY = re.compile(
    r"(?:\$|USD\s?|US\$)\s?(\d[\d,]*(?:\.\d+)?)\s?(k|m|thousand|million)?\b"
    r"|(\d[\d,]*(?:\.\d+)?)\s?(k|m|thousand|million)?\s?(?:USD|dollars)\b",
    re.IGNORECASE,
)
_FIGURE = re.compile(
    r"\b\d+(?:[.,]\d+)?\s?(?:%|percent\b|people\b|days?\b|weeks?\b|months?\b|engineers?\b|hours?\b)", re.IGNORECASE
)
_SCALE = {"k": 1e3, "thousand": 1e3, "m": 1e6, "million": 1e6}
_INCOMING = re.compile(
    r"\b(?:sav(?:es?|ed|ings?)|revenue|earn(?:s|ed)?|profits?|gains?|brings?(?: in)?|worth)\b[^.;:!?]{0,24}$", re.IGNORECASE
)


def found(factors: tuple[Factor, ...], text: Text) -> list[Found]:
    """What the text has of them, the strongest first; "no overtime" is no overtime. Each factor counts once."""
    hits = []
    for factor in factors:
        best: Found | None = None
        for phrase, weight in factor.phrases.items():
            at = text.find_unless(phrase, _NEGATIONS)
            if at is not None and (best is None or weight > best.weight):
                best = Found(weight, factor.says.format(text.quoted(phrase, at)))
        if best is not None:
            hits.append(best)
    return sorted(hits, key=lambda hit: -hit.weight)


def mentions(text: Text, phrase: str) -> int | None:
    """Where the text speaks of it, other than to rule it out."""
    return text.find_unless(phrase, _NEGATIONS)


def amounts_usd(text: str) -> list[float]:
    """The amounts in US dollars a text names: "$250k", "1.2 million USD"."""
    return [_amount(match) for match in _MONEY.finditer(text)]


def largest_spending(text: str) -> tuple[float, str]:
    """The largest amount that is not a saving or an income, and how it is written; (0, "") when there is none."""
    spent = [match for match in _MONEY.finditer(text) if not _INCOMING.search(text[: match.start()])]
    largest = max(spent, key=_amount, default=None)
    return (_amount(largest), largest.group().strip()) if largest else (0.0, "")


def figures(text: str) -> list[str]:
    """The first three figures of a text as they are written, amounts of money before others."""
    money = [match.group().strip() for match in _MONEY.finditer(text)]
    return list(dict.fromkeys([*money, *(match.group() for match in _FIGURE.finditer(text))]))[:3]


def _amount(match: re.Match[str]) -> float:
    before, scale_before, after, scale_after = match.groups()
    number = (before or after).replace(",", "")
    return float(number) * _SCALE.get((scale_before or scale_after or "").lower(), 1.0)
