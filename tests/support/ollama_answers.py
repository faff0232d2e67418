"""What the stand-in for Ollama says: JSON that fits the schema it was asked for, and varies with role and question."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

_TITLE = re.compile(r"You are the (.+?) of ")
_DUTIES = re.compile(r"You answer for (.+?)\.")
_ASKING = re.compile(r"^(?:should|shall|do|can) we ", re.IGNORECASE)
_SUBJECT = re.compile(r"^begin \w+ the question\n(.+)$", re.MULTILINE)


class Answerer:
    """One answer. The same model, prompt and schema give the same answer."""

    def __init__(self, model: str, messages: Sequence[Mapping[str, Any]]) -> None:
        whole = "\n".join(str(message.get("content", "")) for message in messages)
        # The word of a fence is new in every prompt: it must not decide what is answered.
        steady = re.sub(r"\b[0-9a-f]{16}\b", "", f"{model}\n{whole}")
        self._random = Random(hashlib.sha256(steady.encode("utf-8", "replace")).digest())
        self.title = _found(_TITLE, whole, "assistant")
        self.duties = _found(_DUTIES, whole, "the work").split(", ")
        self.subject = _ASKING.sub("", _found(_SUBJECT, whole, "this").strip().rstrip("?.! "))

    def content(self, asked: Any) -> str:
        """Free text without a schema; else JSON, its keys sorted by name as Ollama's grammar has them."""
        if not asked:
            return self._sentence("text")
        if asked == "json":
            return json.dumps({"answer": self._sentence("text")})
        return json.dumps(self._fitting(asked, asked, ""), sort_keys=True, ensure_ascii=False)

    def _fitting(self, schema: Mapping[str, Any], root: Mapping[str, Any], name: str) -> Any:
        if reference := schema.get("$ref"):
            node: Any = root
            for part in str(reference).removeprefix("#/").split("/"):
                node = node[part]
            return self._fitting(node, root, name)
        if options := schema.get("anyOf") or schema.get("oneOf"):
            return self._fitting(options[0], root, name)
        if "const" in schema:
            return schema["const"]
        if choices := schema.get("enum"):
            # The first ones more often: a schema tends to list what is usual first.
            return (
                self._random.choices(choices, range(len(choices), 0, -1))[0]
                if len(choices) < 5
                else self._random.choice(choices)
            )
        kind = schema.get("type")
        if kind == "object":
            properties = schema.get("properties", {})
            return {key: self._fitting(properties[key], root, key) for key in sorted(properties)}
        if kind == "array":
            low, high = int(schema.get("minItems", 1)), int(schema.get("maxItems", 2))
            items = [self._fitting(schema.get("items", {}), root, name) for _ in range(max(low, min(2, high)))]
            return [item for number, item in enumerate(items) if item not in items[:number]]
        if kind == "boolean":
            return self._random.random() < 0.2
        if kind in ("number", "integer"):
            low, high = float(schema.get("minimum", 0)), float(schema.get("maximum", 1))
            value = low + (high - low) * self._random.uniform(0.55, 0.95)
            return int(value) if kind == "integer" else round(value, 2)
        return self._sentence(name)

    def _sentence(self, name: str) -> str:
        duty, subject = self._random.choice(self.duties), self.subject
        if name in ("proposals", "what"):
            text = self._random.choice(
                ["write one page on {d} before we start", "try it with one team for a month", "put a figure on {d}"]
            )
        elif name == "concerns":
            text = self._random.choice(["what “{s}” does to {d} in the first month", "who looks after {d} meanwhile"])
        elif name == "due":
            text = self._random.choice(["within 2 weeks", "within a month", "before the next step"])
        else:
            text = self._random.choice(
                [
                    "As {t} I look at “{s}” from the side of {d}: it can be done in steps, and the first is small.",
                    "“{s}” depends on {d} more than on anything else; as {t} I want that settled first.",
                    "What “{s}” costs us in {d} is larger than it looks; as {t} I would begin with a trial.",
                ]
            )
        return text.format(t=self.title, d=duty, s=subject)


def pieces(content: str) -> list[str]:
    """The content as a model would stream it: a word or two at a time."""
    return re.findall(r"\S+\s*|\s+", content) or [""]


def _found(pattern: re.Pattern[str], text: str, otherwise: str) -> str:
    match = pattern.search(text)
    return match.group(1) if match else otherwise
