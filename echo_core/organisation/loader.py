"""Reads and checks an organisation file. Every problem is one line that names the place."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

from echo_core.errors import OrganisationError
from echo_core.organisation.model import RESERVED, Concern, Organisation, PhaseLimits, Role

DEFAULT_FILE = Path(__file__).with_name("default.toml")
_ROLE_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


def load_organisation(path: Path | None = None) -> Organisation:
    """The organisation in `path`, or the default one. Raises OrganisationError."""
    file = path or DEFAULT_FILE
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise OrganisationError(f"{file} can't be read ({error.strerror}); check --organisation") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OrganisationError(f"{file} is not valid TOML: {error}") from error
    reader = _Reader(str(file))
    return reader.organisation(data)


class _Reader:
    def __init__(self, file: str) -> None:
        self.file = file

    def organisation(self, data: dict[str, Any]) -> Organisation:
        self.known(data, ("name", "consensus", "limits", "roles"), "the file")
        tables = self.typed(data, "roles", dict, "the file", {})
        if not tables:
            self.fail("there are no roles; write at least one [roles.NAME]")
        roles = {name: self.role(name, table) for name, table in tables.items()}
        self.check_reporting(roles)
        consensus = self.typed(data, "consensus", dict, "the file", {})
        self.known(consensus, ("threshold", "quorum"), "[consensus]")
        return Organisation(
            name=self.typed(data, "name", str, "the file", "ECHO"),
            roles=roles,
            threshold=self.number(consensus, "threshold", 0.5, 1.0, "[consensus]", 0.6),
            quorum=self.number(consensus, "quorum", 0.0, 1.0, "[consensus]", 0.5),
            limits=self.limits(self.typed(data, "limits", dict, "the file", {})),
        )

    def role(self, name: str, table: Any) -> Role:
        place = f"[roles.{name}]"
        if not _ROLE_NAME.fullmatch(name):
            self.fail(f"{place}: a role's name is lower_snake_case")
        if name in RESERVED:
            self.fail(f"{place}: {name!r} is reserved; choose another name")
        if not isinstance(table, dict):
            self.fail(f"{place} must be a table")
        self.known(table, tuple(f.name for f in fields(Role) if f.name != "role"), place)
        keywords = self.typed(table, "keywords", dict, place, {})
        limit = self.number(table, "authority_limit_usd", 0, 1e15, place, -1)
        reports_to = self.typed(table, "reports_to", str, place, "")
        return Role(
            role=name,
            title=self.typed(table, "title", str, place, name.replace("_", " ").capitalize()),
            leadership=self.typed(table, "leadership", bool, place, False),
            reports_to=reports_to or None,
            authority_limit_usd=None if limit < 0 else limit,
            responsibilities=self.strings(table, "responsibilities", place),
            keywords={word: self.number(keywords, word, 0, 1, f"{place} keywords", 0) for word in keywords},
            concerns=tuple(self.concern(item, place) for item in self.typed(table, "concerns", list, place, [])),
            model=self.typed(table, "model", str, place, ""),
        )

    def concern(self, item: Any, place: str) -> Concern:
        place = f"{place} concerns"
        if not isinstance(item, dict):
            self.fail(f"{place}: each one is a table with words and asks")
        self.known(item, ("words", "asks", "proposal", "alarm"), place)
        words, asks = self.strings(item, "words", place), self.typed(item, "asks", str, place, "")
        if not words or not asks:
            self.fail(f"{place}: each one needs words and asks")
        return Concern(words, asks, self.typed(item, "proposal", str, place, ""), self.number(item, "alarm", 0, 1, place, 0))

    def limits(self, table: dict[str, Any]) -> PhaseLimits:
        self.known(table, tuple(f.name for f in fields(PhaseLimits)), "[limits]")
        default = PhaseLimits()
        seconds = {
            f.name: self.number(table, f.name, 1, 86_400, "[limits]", getattr(default, f.name))
            for f in fields(PhaseLimits)
            if f.name != "rounds"
        }
        return PhaseLimits(**seconds, rounds=int(self.number(table, "rounds", 2, 10, "[limits]", default.rounds)))

    def check_reporting(self, roles: dict[str, Role]) -> None:
        leaders = [role.role for role in roles.values() if role.reports_to is None]
        if len(leaders) != 1:
            found = ", ".join(leaders) or "nobody"
            self.fail(f"exactly one role reports to nobody and leads; here it is {found}")
        for role in roles.values():
            seen = [role.role]
            while (above := roles[seen[-1]].reports_to) is not None:
                if above not in roles:
                    self.fail(f"[roles.{seen[-1]}]: reports_to names {above!r}, which is no role")
                if above in seen:
                    self.fail(f"{' -> '.join([*seen, above])}: these report to each other in a circle")
                seen.append(above)

    def known(self, table: dict[str, Any], names: tuple[str, ...], place: str) -> None:
        for name in table:
            if name not in names:
                self.fail(f"{place}: {name!r} is unknown; known are {', '.join(names)}")

    def typed(self, table: dict[str, Any], name: str, kind: type, place: str, default: Any) -> Any:
        value = table.get(name, default)
        if not isinstance(value, kind):
            self.fail(f"{place}: {name} must be {_KINDS[kind]}")
        return value

    def strings(self, table: dict[str, Any], name: str, place: str) -> tuple[str, ...]:
        values = self.typed(table, name, list, place, [])
        if not all(isinstance(value, str) for value in values):
            self.fail(f"{place}: {name} must be a list of texts")
        return tuple(values)

    def number(self, table: dict[str, Any], name: str, low: float, high: float, place: str, default: float) -> float:
        value = table.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or (name in table and not low <= value <= high):
            self.fail(f"{place}: {name} must be a number from {low:g} to {high:g}")
        return float(value)

    def fail(self, problem: str) -> Any:
        raise OrganisationError(f"{self.file}: {problem}")


_KINDS = {str: "a text", bool: "true or false", dict: "a table", list: "a list"}
