"""A message: the immutable record that one role sends to a role, to leadership or to all."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from echo_core.errors import InvalidMessage

MESSAGE_TYPES = ("request", "response", "notification", "escalation")
GROUPS = ("all", "leadership")
BODY_BYTES = 64 * 1024  # more than a person types, and small enough to be announced whole
CONTENT_BYTES = 480 * 1024  # below what the database accepts, with room for its own way of writing JSON
SUBJECT_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Message:
    """`id` and `inserted_at` are None until the database has given them. `uid` makes sending it twice harmless."""

    from_role: str
    to_role: str
    type: str
    subject: str
    content: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    decision_id: str | None = None
    in_reply_to: int | None = None
    uid: str = field(default_factory=lambda: str(uuid4()))
    id: int | None = None
    inserted_at: datetime | None = None

    @classmethod
    def compose(
        cls,
        from_role: str,
        to_role: str,
        type: str,
        subject: str,
        body: str | None = None,
        *,
        content: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        decision_id: str | None = None,
        in_reply_to: int | None = None,
        uid: str | None = None,
    ) -> Message:
        """A message that the database will take; `body` goes into the content. Raises InvalidMessage with the reason."""
        if type not in MESSAGE_TYPES:
            raise InvalidMessage(f"unknown message type {type!r}; use one of: {', '.join(MESSAGE_TYPES)}")
        if not from_role or not to_role:
            raise InvalidMessage("a message needs a sender and a recipient; nothing was sent")
        subject = " ".join(subject.split())
        if not subject:
            raise InvalidMessage("the subject is empty; nothing was sent")
        if len(subject) > SUBJECT_CHARACTERS:
            raise InvalidMessage(f"the subject has {len(subject)} characters; {SUBJECT_CHARACTERS} are possible")
        whole = dict(content or {})
        if body is not None:
            whole["body"] = body
        message = cls(
            from_role=from_role,
            to_role=to_role,
            type=type,
            subject=subject,
            content=whole,
            metadata=dict(metadata or {}),
            decision_id=str(decision_id) if decision_id else None,
            in_reply_to=in_reply_to,
            uid=str(uid) if uid else str(uuid4()),
        )
        message._check()
        return message

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Message:
        """A row of `messages`. Content typed by hand may be any JSON; text becomes the body."""
        content = row["content"]
        if not isinstance(content, dict):
            content = {"body": content if isinstance(content, str) else json.dumps(content)}
        metadata = row["metadata"]
        return cls(
            from_role=row["from_role"],
            to_role=row["to_role"],
            type=row["type"],
            subject=row["subject"],
            content=content,
            metadata=metadata if isinstance(metadata, dict) else {},
            decision_id=str(row["decision_id"]) if row["decision_id"] else None,
            in_reply_to=row["in_reply_to"],
            uid=str(row["uid"]),
            id=row["id"],
            inserted_at=row["inserted_at"],
        )

    def stored(self, id: int, inserted_at: datetime, decision_id: object) -> Message:
        """This message with what the database gave it; written out, for each send pays for it."""
        return Message(
            self.from_role,
            self.to_role,
            self.type,
            self.subject,
            self.content,
            self.metadata,
            str(decision_id) if decision_id else None,
            self.in_reply_to,
            self.uid,
            id,
            inserted_at,
        )

    @property
    def body(self) -> str:
        """What a person would read: the same rule as the database's `body_of`."""
        for key in ("body", "text", "message"):
            value = self.content.get(key)
            if value is not None:
                return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return ""

    def payload(self) -> dict[str, Any]:
        """The public announcement on `messages:*`: a hint for our own agents, the whole message for scripts."""
        metadata = {**self.metadata, "timestamp": (self.inserted_at or datetime.now(UTC)).isoformat()}
        if self.decision_id:
            metadata["decision_id"] = self.decision_id
        if self.in_reply_to is not None:
            metadata["in_reply_to"] = self.in_reply_to
        return {
            "db_id": self.id,
            "id": self.uid,
            "from": self.from_role,
            "to": self.to_role,
            "type": self.type,
            "subject": self.subject,
            "content": self.content,
            "metadata": metadata,
        }

    def to_json(self) -> dict[str, Any]:
        """For the outbox: what `from_json` needs to send it later."""
        return {
            "uid": self.uid,
            "from_role": self.from_role,
            "to_role": self.to_role,
            "type": self.type,
            "subject": self.subject,
            "content": self.content,
            "metadata": self.metadata,
            "decision_id": self.decision_id,
            "in_reply_to": self.in_reply_to,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Message:
        """Raises InvalidMessage, KeyError or TypeError for what `to_json` would not have written."""
        return cls.compose(**value)

    def _check(self) -> None:
        try:
            for text in _strings([self.from_role, self.to_role, self.subject, self.content, self.metadata]):
                if "\x00" in text:
                    raise InvalidMessage("the text holds a NUL character, which can't be stored; nothing was sent")
                text.encode("utf-8")
            size = len(json.dumps([self.content, self.metadata], allow_nan=False).encode())
        except UnicodeEncodeError as error:
            raise InvalidMessage("the text holds half of a character (a lone surrogate); nothing was sent") from error
        except (TypeError, ValueError) as error:
            raise InvalidMessage(f"the content can't be written as JSON ({error}); nothing was sent") from error
        except RecursionError as error:
            raise InvalidMessage("the content is nested too deeply; nothing was sent") from error
        length = len(self.body.encode("utf-8"))
        if length > BODY_BYTES:
            raise InvalidMessage(f"the text is {length:,} bytes long; {BODY_BYTES:,} are possible. Nothing was sent")
        if size > CONTENT_BYTES:
            raise InvalidMessage(f"the content is {size:,} bytes long; {CONTENT_BYTES:,} are possible. Nothing was sent")


def announcement_channel(to_role: str) -> str:
    """`messages:all`, `messages:leadership` or `messages:<role>`."""
    return f"messages:{to_role}"


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _strings(key)
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)
