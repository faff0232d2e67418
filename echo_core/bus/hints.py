"""What arrives on a message channel is a hint from anybody: checked, counted, and never believed."""

from __future__ import annotations

import json
from collections import Counter, OrderedDict
from typing import Any

from echo_core.bus.message import Message
from echo_core.logs import Log

HINT_BYTES = 256 * 1024  # larger than any announcement of ours
REMEMBERED_BYTES = 16 * 1024  # a longer hint is followed, but not compared with what is stored
REMEMBERED = 64  # hints compared with the record; older ones are followed all the same
SEEN = 1024  # deliveries this process has had lately: their hints may come late
_MAXIMUM_ID = 2**63 - 1
_COMPARED = ("id", "from", "to", "type", "subject", "content")


class Hints:
    """Decides which announcements are worth a look at the database; the others are counted and logged once per kind."""

    def __init__(self, role: str, log: Log) -> None:
        self.ignored: Counter[str] = Counter()
        self._role = role
        self._log = log
        self._open: OrderedDict[int, dict[str, Any]] = OrderedDict()
        self._seen: OrderedDict[int, None] = OrderedDict()

    def take(self, channel: str, data: bytes) -> bool:
        """Whether to look into the database now. Never raises, whatever `data` is."""
        kind, payload = _read(data)
        if kind:
            self._ignore(kind, f"announcement on {channel}")
            return False
        number = payload["db_id"]
        if number not in self._seen and payload.get("from") != self._role:
            self._open[number] = payload if len(data) <= REMEMBERED_BYTES else {"db_id": number}
            if len(self._open) > REMEMBERED:
                self._open.popitem(last=False)
        return True

    def claimed(self, message: Message) -> None:
        """`message` was read from the database: compare it with what was announced, if anything was."""
        assert message.id is not None
        self._seen[message.id] = None
        if len(self._seen) > SEEN:
            self._seen.popitem(last=False)
        hint = self._open.pop(message.id, None)
        if hint is None:
            return
        stored = message.payload()
        differing = [key for key in _COMPARED if key in hint and hint[key] != stored[key]]
        if differing and not (hint.get("metadata") or {}).get("content_omitted"):
            self._ignore("forged content", f"#{message.id} was announced with another {differing[0]}; the stored one counts")

    def unclaimed(self) -> list[int]:
        """Announced ids that led to no delivery; each is returned once."""
        numbers = [number for number in self._open if number not in self._seen]
        self._open.clear()
        return numbers

    def explain(self, numbers: list[int], rows: list[dict[str, Any]]) -> None:
        """Count the ids among `numbers` that are no message, or one owed to somebody else. `rows`: announced_messages."""
        found = {row["id"]: row for row in rows}
        for number in numbers:
            row = found.get(number)
            if row is None:
                self._ignore("unknown db_id", f"#{number} was announced but is not stored")
            elif not row["owed"] and row["from_role"] != self._role:
                self._ignore("db_id owed to somebody else", f"#{number} was announced here but is not owed to {self._role}")

    def _ignore(self, kind: str, text: str) -> None:
        self.ignored[kind] += 1
        if self.ignored[kind] == 1:
            self._log.warn("ignored", f"{kind}: {text} (further ones are counted, not logged)")


def _read(data: bytes) -> tuple[str, dict[str, Any]]:
    if len(data) > HINT_BYTES:
        return "too large", {}
    try:
        payload = json.loads(data)
    except RecursionError:
        return "nested too deeply", {}
    except ValueError:  # not UTF-8, not JSON, a number of thousands of digits
        return "not JSON", {}
    if not isinstance(payload, dict):
        return "not an object", {}
    number = payload.get("db_id")
    if type(number) is not int or not 0 < number <= _MAXIMUM_ID:
        return "no usable db_id", {}
    if not isinstance(payload.get("metadata", {}), dict):
        return "wrong types", {}
    return "", payload
