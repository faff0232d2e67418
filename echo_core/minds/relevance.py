"""How strongly a text concerns a role: whole words and simple inflections, weighted, saturating."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from echo_core.minds.protocol import Stance

CLEARLY_RELEVANT = 0.8  # above this keywords decide alone
CLEARLY_IRRELEVANT = 0.2  # below this too; a model is asked only in between

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_PART = re.compile(r"[^-]+")
_SHORT_WITH_E = re.compile(r"[^aeiou][aeiou][^aeiouwxy]")


@dataclass(frozen=True, slots=True)
class Relevance:
    """`score` 0 to 1; `matched` the keywords found, strongest first."""

    score: float
    matched: tuple[str, ...]


@lru_cache(maxsize=4096)
def stem(word: str) -> str:
    """The word without a plural, -ing, -ed or -ion ending: "designs", "designing" and "designed" are "design".

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
    if word.endswith("tion") and len(word) > 7:  # migration and migrate, implementation and implement
        return word.removesuffix("ation") if word.endswith("ntation") else word.removesuffix("ion")
    for ending in ("ing", "ed"):
        base = word.removesuffix(ending)
        if base != word and len(base) >= 3 and re.search("[aeiouy]", base):
            return _without_ending(base)
    return word.removesuffix("e") if len(word) > 4 else word


def _without_ending(base: str) -> str:
    if base[-1] == base[-2] and base[-1] not in "lsz":
        return base[:-1]  # planned
    if _SHORT_WITH_E.fullmatch(base):
        return f"{base}e"  # hiring: "hir" would double its last letter if it had no e
    return base.removesuffix("e")


@dataclass(frozen=True, slots=True)
class Text:
    """A text as stems with their places, so that what was found can be quoted as it was written."""

    written: str
    stems: tuple[str, ...]
    places: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, written: str) -> Text:
        found = [(match.start(), part) for match in _WORD.finditer(written) for part in _PART.finditer(match.group())]
        return cls(
            written,
            tuple(stem(part.group()) for _, part in found),
            tuple((start + part.start(), start + part.end()) for start, part in found),
        )

    def find(self, phrase: str) -> int | None:
        """The index of the stem where the phrase begins; None when the text does not have it."""
        wanted = phrase_stems(phrase)
        return next(self._all(wanted), None)

    def find_unless(self, phrase: str, before: frozenset[str]) -> int | None:
        """The same, passing over places that one of `before` stands in front of, with one word between at most."""
        wanted = phrase_stems(phrase)
        return next((at for at in self._all(wanted) if not before.intersection(self.stems[max(0, at - 2) : at])), None)

    def quoted(self, phrase: str, at: int) -> str:
        """The words at `at` as they were written, in quotation marks."""
        last = at + len(phrase_stems(phrase)) - 1
        return f"“{' '.join(self.written[self.places[at][0] : self.places[last][1]].split())}”"

    def _all(self, wanted: tuple[str, ...]) -> Iterator[int]:
        if not wanted or wanted[0] not in self.stems:
            return
        for at in range(self.stems.index(wanted[0]), len(self.stems) - len(wanted) + 1):
            if self.stems[at : at + len(wanted)] == wanted:
                yield at


@lru_cache(maxsize=16)  # every role reads the same question
def read_text(written: str) -> Text:
    return Text.of(written)


@lru_cache(maxsize=4096)
def phrase_stems(phrase: str) -> tuple[str, ...]:
    """A hyphenated word is its parts: "four-day" is "four" and "day"."""
    return tuple(stem(part) for match in _WORD.findall(phrase) for part in _PART.findall(match))


def relevance(keywords: Mapping[str, float], text: str) -> Relevance:
    """1 - product of (1 - weight) over the keywords found: one strong keyword is enough, many weak ones add up.

    Forms of one word ("price", "pricing") count once, with the larger weight.
    """
    found = read_text(text)
    strongest: dict[tuple[str, ...], str] = {}
    for word in sorted(keywords, key=lambda word: (-keywords[word], word)):
        if found.find(word) is not None:
            strongest.setdefault(phrase_stems(word), word)
    rest = 1.0
    for word in strongest.values():
        rest *= 1.0 - keywords[word]
    return Relevance(round(1.0 - rest, 2), tuple(strongest.values()))


def stance_for(score: float) -> Stance:
    """lead from 0.8, assist from 0.45, observe above 0.2, else none."""
    if score >= CLEARLY_RELEVANT:
        return "lead"
    if score >= 0.45:
        return "assist"
    return "observe" if score > CLEARLY_IRRELEVANT else "none"
