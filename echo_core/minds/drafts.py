"""What a model is asked to write: small forms whose schema goes with the question, and which bound every answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from echo_core.minds.protocol import Ballot, Position, Stance

ACTIONS = 8
CONCERNS = 4
PROPOSALS = 3

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_ADDED_BY_PYDANTIC = ("title", "default", "description")  # the prompt says it in words; the grammar needs none of it


def _tidy(limit: int, value: Any) -> Any:
    """Too long is cut rather than refused: asking again would take as long and end the same way."""
    if not isinstance(value, str):
        return value
    text = _CONTROL.sub("", value.replace("\r\n", "\n")).strip()
    return text if len(text) <= limit else f"{text[: limit - 1].rstrip()}…"


def _some(limit: int, value: Any) -> Any:
    if not isinstance(value, list):
        return value
    return [item for item in value if not isinstance(item, str) or item.strip()][:limit]


def _lower(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


def _share(value: Any) -> Any:
    """A model that is told "0 to 1" now and then writes percent."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 1 < value <= 100:
        return value / 100
    return value


Line = Annotated[str, Field(min_length=1), BeforeValidator(partial(_tidy, 300))]
Note = Annotated[str, BeforeValidator(partial(_tidy, 80))]
Paragraph = Annotated[str, Field(min_length=1), BeforeValidator(partial(_tidy, 800))]
Page = Annotated[str, Field(min_length=1), BeforeValidator(partial(_tidy, 2_500))]
Share = Annotated[float, Field(ge=0, le=1), BeforeValidator(_share)]


class Draft(BaseModel):
    model_config = ConfigDict(extra="ignore")


class JudgementDraft(Draft):
    stance: Annotated[Stance, BeforeValidator(_lower)] = Field(
        description="lead if it is mainly your business, assist if you have something to add, observe if you only want to"
        " know, none if it does not concern your role"
    )
    confidence: Share = Field(description="how sure you are of that, 0 to 1")
    reasoning: Paragraph = Field(description="one sentence: what in the question concerns your role, or why nothing does")


class ContributionDraft(Draft):
    position: Annotated[Position, BeforeValidator(_lower)] = Field(
        description="for, against, or conditional if it depends on something you name"
    )
    text: Page = Field(description="your position in three to five sentences")
    concerns: Annotated[list[Line], Field(max_length=CONCERNS), BeforeValidator(partial(_some, CONCERNS))] = Field(
        description="up to four questions that must be answered first, each one sentence"
    )
    proposals: Annotated[list[Line], Field(max_length=PROPOSALS), BeforeValidator(partial(_some, PROPOSALS))] = Field(
        description="up to three actions that you yourself offer to own, each beginning with a verb in small letters"
    )
    nothing_new: bool = Field(description="true if you only repeat what was said before")


class VoteDraft(Draft):
    vote: Annotated[Ballot, BeforeValidator(_lower)] = Field(description="approve, reject or abstain")
    confidence: Share = Field(description="how sure you are, 0 to 1")
    rationale: Paragraph = Field(description="one or two sentences: what decided it for you")


class ActionDraft(Draft):
    what: Line = Field(description="the action, beginning with a verb")
    owner: Note = Field(description="the role that owns it")
    due: Note = Field(description="by when, such as: within 2 weeks")


class OutcomeDraft(Draft):
    summary: Paragraph = Field(description="two sentences: what was decided and what follows first")
    rationale: Page = Field(description="one paragraph: the reasons that decided it, and who gave them")
    actions: Annotated[list[ActionDraft], Field(max_length=ACTIONS), BeforeValidator(partial(_some, ACTIONS))] = Field(
        description="two to six actions, each with what (begins with a verb), owner (one of the roles) and due"
    )


D = TypeVar("D", bound=Draft)


def schema_of(draft: type[Draft], roles: Sequence[str] = ()) -> dict[str, Any]:
    """The JSON schema for `format`; an owner can only be one of `roles`. Texts have no maximum in it: a grammar that
    counts characters is slow, and `_tidy` cuts them anyway."""
    schema: dict[str, Any] = _bare(draft.model_json_schema())
    if roles and (action := schema.get("$defs", {}).get("ActionDraft")):
        action["properties"]["owner"] = {"type": "string", "enum": list(roles)}
    return schema


def _bare(node: Any) -> Any:
    if isinstance(node, dict):
        return {name: _bare(item) for name, item in node.items() if name not in _ADDED_BY_PYDANTIC or isinstance(item, dict)}
    return [_bare(item) for item in node] if isinstance(node, list) else node


def explained(draft: type[Draft]) -> str:
    """The fields in words: a schema steers what can be written, and the model does not see it."""
    return "\n".join(f"- {name}: {field.description}" for name, field in draft.model_fields.items())


def read(draft: type[D], content: str) -> D:
    """The answer in `content`, also inside a code fence or after a model's thinking. Raises pydantic's ValidationError."""
    return draft.model_validate_json(content[content.find("{") : content.rfind("}") + 1] if "{" in content else content)
