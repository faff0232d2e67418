"""Which mind an agent has, now and later: a model when Ollama is there, rules when it is not."""

from __future__ import annotations

import asyncio
import http.client
import importlib
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from echo_core.health.breaker import BreakerPolicy, BreakerState, CircuitBreaker
from echo_core.minds.protocol import Contribution, Judgement, Mind, Outcome, Question, Tally, Vote
from echo_core.minds.relevance import CLEARLY_IRRELEVANT, CLEARLY_RELEVANT
from echo_core.minds.rules import RuleMind
from echo_core.organisation import Organisation, Role
from echo_core.settings import Settings

if TYPE_CHECKING:
    from echo_core.minds.ollama import OllamaMind

LOOK_AGAIN_SECONDS = 30.0  # how soon an Ollama that appears is noticed
TAGS_SECONDS = 2.0
OLLAMA_PORT = 11434
# After two questions without a usable answer a model is left alone, for 10 s at first: rules answer at once meanwhile.
MODEL_BREAKER = BreakerPolicy(failures=2, open_seconds=10.0, factor=2.0, maximum_open_seconds=120.0)
OnBreaker = Callable[[str, BreakerState, BreakerState, str], None]

_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # what a server listens on is not where a client goes


def ollama_url(host: str) -> str:
    """`OLLAMA_HOST` as Ollama itself reads it: scheme and port may be missing. Source: Ollama's envconfig."""
    text = host.strip().strip("\"'").strip()
    scheme, separator, rest = text.rpartition("://")
    parts = urlsplit(f"//{rest}")
    try:
        port = parts.port
        name = parts.hostname or "127.0.0.1"
    except ValueError:
        return f"http://127.0.0.1:{OLLAMA_PORT}"
    name = _ANYWHERE.get(name, name)
    name = f"[{name}]" if ":" in name else name
    usual = {"http": 80, "https": 443}.get(scheme, OLLAMA_PORT) if separator else OLLAMA_PORT
    return f"{scheme or 'http'}://{name}:{port or usual}{parts.path.rstrip('/')}"


async def installed_models(host: str) -> list[str] | None:
    """The models of `GET /api/tags` that can hold a conversation, newest first; None when Ollama can't be reached.

    A model that lists what it can do without `completion` (an embedding model) is left out. Source: Ollama's API
    documentation.
    """
    return await asyncio.to_thread(_installed_models, host)


def _installed_models(host: str) -> list[str] | None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy is never asked for this machine
    try:
        with opener.open(f"{ollama_url(host)}/api/tags", timeout=TAGS_SECONDS) as answer:
            models = json.load(answer).get("models") or []
            return [str(model["name"]) for model in models if "name" in model and _converses(model.get("capabilities"))]
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError, AttributeError, TypeError):
        return None


def _converses(capabilities: object) -> bool:
    return not isinstance(capabilities, list) or not capabilities or "completion" in capabilities


def preferred_model(role: Role, settings: Settings) -> str:
    return os.environ.get(f"ECHO_MODEL_{role.role.upper()}") or settings.model or role.model


def pick_model(wanted: str, installed: Sequence[str]) -> str:
    """The wanted model if it is installed (a missing tag means `latest`), else the first installed one."""
    for name in installed:
        if wanted and name.lower() in _names(wanted):
            return name
    return installed[0]


def _names(wanted: str) -> tuple[str, str]:
    return wanted.lower(), f"{wanted}:latest".lower()


class AdaptiveMind:
    """Answers with a model when one can be had and with rules otherwise; looks again now and then.

    `log` is told what it thinks with, `warn` what the operator should see to, `on_breaker(model, old, new, reason)` what
    the breaker in front of a model does.
    """

    def __init__(
        self,
        role: Role,
        organisation: Organisation,
        settings: Settings,
        record: Callable[..., None] | None = None,
        log: Callable[[str], None] | None = None,
        warn: Callable[[str], None] | None = None,
        *,
        on_breaker: OnBreaker | None = None,
        look_again_seconds: float = LOOK_AGAIN_SECONDS,
    ) -> None:
        self._role, self._organisation, self._settings = role, organisation, settings
        self._record, self._log = record, log
        self._warn = warn or log
        self._on_breaker = on_breaker
        self._look_again_seconds = look_again_seconds
        self._rules = RuleMind(role, organisation)
        self._model: OllamaMind | None = None
        self._breakers: dict[str, CircuitBreaker] = {}  # of a model: kept while it is away and back
        self._looked: float | None = None
        self._why_rules = ""
        self.label = "rules"
        self.ollama_reachable = False

    @property
    def breaker(self) -> CircuitBreaker | None:
        """The one in front of the model in use; None while there is none."""
        return self._breakers.get(self.label)

    async def judge(self, question: Question) -> Judgement:
        answer = await (await self._mind()).judge(question)
        if CLEARLY_IRRELEVANT < answer.confidence < CLEARLY_RELEVANT:  # where a model would have been asked
            return answer.model_copy(update=self._excuse(answer.source, answer.fallback_reason))
        return answer

    async def contribute(self, question: Question, round_number: int, heard: Sequence[Contribution]) -> Contribution:
        answer = await (await self._mind()).contribute(question, round_number, heard)
        return answer.model_copy(update=self._excuse(answer.source, answer.fallback_reason))

    async def vote(self, question: Question, heard: Sequence[Contribution]) -> Vote:
        answer = await (await self._mind()).vote(question, heard)
        return answer.model_copy(update=self._excuse(answer.source, answer.fallback_reason))

    async def synthesise(
        self, question: Question, heard: Sequence[Contribution], votes: Sequence[Vote], tally: Tally
    ) -> Outcome:
        answer = await (await self._mind()).synthesise(question, heard, votes, tally)
        return answer.model_copy(update=self._excuse(answer.source, answer.fallback_reason))

    async def close(self) -> None:
        if self._model is not None:
            await self._model.close()

    async def look(self) -> None:
        """See what Ollama has now, and think with it from here on. Never raises."""
        models = await installed_models(self._settings.ollama_host)
        self._looked = time.monotonic()
        self.ollama_reachable = models is not None
        if not models:
            at = ollama_url(self._settings.ollama_host)
            why = f"Ollama at {at} can't be reached" if models is None else f"Ollama at {at} has no model installed"
            await self._think_by_rules(why)
            return
        wanted = preferred_model(self._role, self._settings)
        model = pick_model(wanted, models)
        if model == self.label:
            return
        await self.close()
        self._model, self.label, self._why_rules = None, model, ""
        if model not in self._breakers:
            self._breakers[model] = CircuitBreaker(MODEL_BREAKER, on_change=self._tell_breaker(model))
        missing = f" ({wanted} is not installed)" if wanted and model.lower() not in _names(wanted) else ""
        self._say(self._log, f"thinks with {model}{missing}")

    async def _think_by_rules(self, why: str) -> None:
        if why == self._why_rules:
            return
        await self.close()
        self._model, self.label, self._why_rules = None, "rules", why
        if self._settings.llm == "ollama":
            advice = "start it with `ollama serve`" if not self.ollama_reachable else "install one with `ollama pull`"
            self._say(self._warn, f"ECHO_LLM=ollama, but {why}; answering by rules until it is there: {advice}")
        else:
            self._say(self._log, f"answers by rules: {why}")

    async def _mind(self) -> Mind:
        gone = self._model is not None and self._model.gone
        if gone or self._looked is None or time.monotonic() - self._looked >= self._look_again_seconds:
            if gone:
                await self._leave_model()
            await self.look()
        if self.label == "rules":
            return self._rules
        if self._model is None:
            self._model = await self._new_model()
        return self._model

    async def _leave_model(self) -> None:
        await self.close()
        self._model, self.label = None, "rules"

    async def _new_model(self) -> OllamaMind:
        # The client costs half a second of one core and some memory: only once there is a model to ask, and not on
        # the loop that beats.
        module = await asyncio.to_thread(importlib.import_module, "echo_core.minds.ollama")
        mind: OllamaMind = module.OllamaMind(
            self._role,
            self._organisation,
            ollama_url(self._settings.ollama_host),
            self.label,
            self._rules,
            self._record,
            breaker=self._breakers[self.label],
        )
        return mind

    def _excuse(self, source: str, reason: str) -> dict[str, str]:
        """With ECHO_LLM=ollama an answer by rules always says why, also when no model was there to be asked."""
        insisted = self._settings.llm == "ollama" and source != "llm" and not reason
        return {"fallback_reason": self._why_rules if insisted else reason}

    def _tell_breaker(self, model: str) -> Callable[[BreakerState, BreakerState, str], None]:
        def on_change(old: BreakerState, new: BreakerState, reason: str) -> None:
            say = self._warn if new is BreakerState.OPEN else self._log
            self._say(say, f"breaker of {model}: {old.value} -> {new.value} ({reason})")
            if self._on_breaker is not None:
                self._on_breaker(model, old, new, reason)

        return on_change

    @staticmethod
    def _say(to: Callable[[str], None] | None, text: str) -> None:
        if to is not None:
            to(text)


async def choose_mind(
    role: Role,
    organisation: Organisation,
    settings: Settings,
    *,
    record: Callable[..., None] | None = None,
    log: Callable[[str], None] | None = None,
    warn: Callable[[str], None] | None = None,
    on_breaker: OnBreaker | None = None,
) -> Mind:
    """The mind of an agent: what Ollama has is seen within two seconds, and seen again later. Never raises for it."""
    if settings.llm == "off":
        return RuleMind(role, organisation)
    mind = AdaptiveMind(role, organisation, settings, record, log, warn, on_breaker=on_breaker)
    await mind.look()
    return mind
