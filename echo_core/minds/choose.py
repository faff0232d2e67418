"""Which mind an agent has, now and later: a model when Ollama is there, rules when it is not."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence

from echo_core.minds.protocol import Contribution, Judgement, Mind, Outcome, Question, Tally, Vote
from echo_core.minds.rules import RuleMind
from echo_core.organisation import Organisation, Role
from echo_core.settings import Settings

LOOK_AGAIN_SECONDS = 30.0  # how soon an Ollama that appears is noticed
TAGS_SECONDS = 2.0


async def installed_models(host: str) -> list[str] | None:
    """The names `GET /api/tags` lists; None when Ollama can't be reached. Source: Ollama's API documentation."""
    return await asyncio.to_thread(_installed_models, host)


def _installed_models(host: str) -> list[str] | None:
    url = host if "://" in host else f"http://{host}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy is never asked for this machine
    try:
        with opener.open(f"{url.rstrip('/')}/api/tags", timeout=TAGS_SECONDS) as answer:
            models = json.load(answer).get("models") or []
            return [str(model["name"]) for model in models if "name" in model]
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError, AttributeError, TypeError):
        return None


def preferred_model(role: Role, settings: Settings) -> str:
    return os.environ.get(f"ECHO_MODEL_{role.role.upper()}") or settings.model or role.model


def pick_model(wanted: str, installed: Sequence[str]) -> str:
    """The wanted model if it is installed (a missing tag means `latest`), else the first installed one."""
    for name in installed:
        if wanted and name in (wanted, f"{wanted}:latest"):
            return name
    return installed[0]


class AdaptiveMind:
    """Answers with a model when one can be had and with rules otherwise; looks again now and then."""

    def __init__(
        self,
        role: Role,
        organisation: Organisation,
        settings: Settings,
        record: Callable[..., None] | None,
        log: Callable[[str], None] | None,
    ) -> None:
        self._role, self._organisation, self._settings = role, organisation, settings
        self._record, self._log = record, log
        self._rules = RuleMind(role, organisation)
        self._model: Mind | None = None
        self._looked = -LOOK_AGAIN_SECONDS
        self.label = "rules"
        self.ollama_reachable = False

    async def judge(self, question: Question) -> Judgement:
        return await (await self._mind()).judge(question)

    async def contribute(self, question: Question, round_number: int, heard: Sequence[Contribution]) -> Contribution:
        return await (await self._mind()).contribute(question, round_number, heard)

    async def vote(self, question: Question, heard: Sequence[Contribution]) -> Vote:
        return await (await self._mind()).vote(question, heard)

    async def synthesise(
        self, question: Question, heard: Sequence[Contribution], votes: Sequence[Vote], tally: Tally
    ) -> Outcome:
        return await (await self._mind()).synthesise(question, heard, votes, tally)

    async def _mind(self) -> Mind:
        if time.monotonic() - self._looked >= LOOK_AGAIN_SECONDS:
            await self._look()
            self._looked = time.monotonic()
        return self._model or self._rules

    async def _look(self) -> None:
        models = await installed_models(self._settings.ollama_host)
        self.ollama_reachable = models is not None
        label = pick_model(preferred_model(self._role, self._settings), models) if models else "rules"
        if label == self.label:
            return
        if label == "rules":
            self._model = None
            self._say("no model can be reached: answering by rules")
        else:
            from echo_core.minds.ollama import OllamaMind  # imports the client: only when there is a server

            wanted = preferred_model(self._role, self._settings)
            self._model = OllamaMind(
                self._role, self._organisation, self._settings.ollama_host, label, self._rules, self._record
            )
            asked = "" if label in (wanted, f"{wanted}:latest") or not wanted else f" ({wanted} is not installed)"
            self._say(f"thinking with {label}{asked}")
        self.label = label

    def _say(self, text: str) -> None:
        if self._log is not None:
            self._log(text)


async def choose_mind(
    role: Role,
    organisation: Organisation,
    settings: Settings,
    *,
    record: Callable[..., None] | None = None,
    log: Callable[[str], None] | None = None,
) -> Mind:
    """The mind of an agent. Returns at once: Ollama is asked when the first question comes."""
    if settings.llm == "off":
        return RuleMind(role, organisation)
    return AdaptiveMind(role, organisation, settings, record, log)
