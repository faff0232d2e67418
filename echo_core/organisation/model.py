"""The organisation as values."""

from __future__ import annotations

from dataclasses import dataclass, field

from echo_core.errors import UnknownRole

SYSTEM_ROLES = ("operator", "conductor")
RESERVED = (*SYSTEM_ROLES, "all", "leadership")


@dataclass(frozen=True, slots=True)
class Concern:
    """What a role asks when a question touches one of `words`; `proposal` is what it offers to do about it.

    `alarm` is how strongly the mere mention speaks against going ahead, 0 to 1.
    """

    words: tuple[str, ...]
    asks: str
    proposal: str = ""
    alarm: float = 0.0


@dataclass(frozen=True, slots=True)
class Role:
    role: str
    title: str
    leadership: bool = False
    reports_to: str | None = None
    authority_limit_usd: float | None = None
    responsibilities: tuple[str, ...] = ()
    keywords: dict[str, float] = field(default_factory=dict)
    concerns: tuple[Concern, ...] = ()
    model: str = ""


@dataclass(frozen=True, slots=True)
class PhaseLimits:
    """How long a phase may take, in seconds, before it ends short and says why; `discussion` is for each round."""

    startup: float = 30.0
    broadcast: float = 15.0
    self_selection: float = 60.0
    discussion: float = 90.0
    consensus: float = 60.0
    synthesis: float = 120.0
    rounds: int = 2


@dataclass(frozen=True, slots=True)
class Organisation:
    name: str
    roles: dict[str, Role]
    threshold: float = 0.6
    quorum: float = 0.5
    limits: PhaseLimits = field(default_factory=PhaseLimits)

    def role(self, name: str) -> Role:
        """Raises UnknownRole, naming the roles there are."""
        try:
            return self.roles[name]
        except KeyError:
            raise UnknownRole(f"no role {name!r} in {self.name}; there are {', '.join(sorted(self.roles))}") from None

    @property
    def leader(self) -> Role:
        """The one who reports to nobody, and writes the synthesis."""
        return next(role for role in self.roles.values() if role.reports_to is None)
