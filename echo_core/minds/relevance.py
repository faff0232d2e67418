"""How strongly a text concerns a role: whole words and simple inflections, weighted, saturating."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from echo_core.minds.protocol import Stance

CLEARLY_RELEVANT = 0.8  # above this keywords decide alone
CLEARLY_IRRELEVANT = 0.2  # below this too; a model is asked only in between

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


@dataclass(frozen=True, slots=True)
class Relevance:
    """`score` 0 to 1; `matched` the keywords found, strongest first."""

    score: float
    matched: tuple[str, ...]


@lru_cache(maxsize=4096)
def stem(word: str) -> str:
    """The word without a plural, -ing, -ed or -er ending: "designs", "designing" and "designed" are "design".

    Only endings are cut and never a beginning, so "designated" stays apart from "design".
    """
    word = word.lower().replace("’", "'").removesuffix("'s")
    if len(word) <= 3:
        return word
    for ending, replacement in (("ies", "y"), ("ied", "y"), ("sses", "ss"), ("xes", "x"), ("ches", "ch"), ("shes", "sh")):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            return word[: -len(ending)] + replacement
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in ("ation", "ing", "ed"):
        base = word.removesuffix(ending)
        if base != word and len(base) >= 3 and re.search("[aeiouy]", base):
            if base[-1] == base[-2] and base[-1] not in "lsz":
                return base[:-1]
            return base.removesuffix("e")
    return word.removesuffix("e") if len(word) > 4 else word


def words(text: str) -> list[str]:
    return [word for match in _WORD.findall(text) for word in _parts(match)]


def _parts(word: str) -> Iterable[str]:
    """A hyphenated word is its parts: "four-day" is "four" and "day"."""
    return word.split("-")


def stems(text: str) -> str:
    """The text's stems with a blank around each, so that a phrase is found with `in`."""
    return " " + " ".join(stem(word) for word in words(text)) + " "


def mentions(text_stems: str, phrase: str) -> bool:
    return stems(phrase) in text_stems


def relevance(keywords: Mapping[str, float], text: str) -> Relevance:
    """1 - product of (1 - weight) over the keywords found: one strong keyword is enough, many weak ones add up."""
    found = stems(text)
    matched = sorted((word for word in keywords if mentions(found, word)), key=lambda word: (-keywords[word], word))
    rest = 1.0
    for word in matched:
        rest *= 1.0 - keywords[word]
    return Relevance(round(1.0 - rest, 2), tuple(matched))


def stance_for(score: float) -> Stance:
    """lead from 0.8, assist from 0.45, observe above 0.2, else none."""
    if score >= CLEARLY_RELEVANT:
        return "lead"
    if score >= 0.45:
        return "assist"
    return "observe" if score > CLEARLY_IRRELEVANT else "none"
