"""Asking one model: it is loaded first, answers within its time, is asked a second time if its answer is of no use.

The only module that imports the `ollama` client.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic

import httpx
import ollama
from pydantic import ValidationError

from echo_core.health.breaker import BreakerState, CircuitBreaker
from echo_core.minds.drafts import D, read, schema_of
from echo_core.minds.prompts import bad_answer, repair_prompt
from echo_core.text import inert

CONTEXT_TOKENS = 8_192  # the same for every call: another value would make Ollama load the model again
TEMPERATURE = 0.4
_ANSWER_CHARACTERS = 40_000  # no form we ask for is that long: a model that writes on is not listened to
_REASON_CHARACTERS = 160
_TIME_TO_REPAIR = 0.2  # of an answer's time: with less left, rules answer rather than a second ask begins
_MILLION = 1_000_000  # nanoseconds in a millisecond

# What the client raises, as measured: its own errors, raw httpx errors, ConnectionError and TimeoutError (both OSError),
# for replies of an unknown shape ValueError (JSON, pydantic, Unicode), TypeError, AttributeError and KeyError, and
# RuntimeError once it is closed.
CALL_ERRORS = (
    ollama.ResponseError,
    ollama.RequestError,
    httpx.HTTPError,
    httpx.InvalidURL,
    httpx.StreamError,
    OSError,
    ValueError,
    TypeError,
    AttributeError,
    KeyError,
    RuntimeError,
)


@dataclass(frozen=True, slots=True)
class CallLimits:
    """Seconds. A load goes on for `load` even when the call that wanted it has given up: Ollama drops a load whose
    first asker leaves, and the next call would begin it anew. `answer` counts from the loaded model, for each of two
    asks; `total` holds for everything together."""

    answer: float
    total: float
    load: float = 300.0  # as long as Ollama itself waits for a load that makes no progress
    connect: float = 3.0

    def __post_init__(self) -> None:
        if not 0 < self.answer <= self.total:
            raise ValueError(f"contradictory limits: {self}")


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One ask, for the record. `outcome` is ok, or what went wrong in a word or two. Milliseconds; None is unknown."""

    model: str
    purpose: str
    outcome: str
    load_ms: float | None = None
    first_token_ms: float | None = None
    total_ms: float | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None


class NoAnswer(Exception):
    """The model gave no usable answer; the text says why. `outcome` is its short form for the record."""

    def __init__(self, reason: str, outcome: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.outcome = outcome


class Unusable(NoAnswer):
    """It answered, but not with what was asked for: asking again may help. `content` is what it wrote."""

    def __init__(self, reason: str, outcome: str, content: str) -> None:
        super().__init__(reason, outcome)
        self.content = content


@dataclass(frozen=True, slots=True)
class _Ask(Generic[D]):
    draft: type[D]
    purpose: str
    limits: CallLimits
    tokens: int  # of the answer
    schema: dict[str, Any]


class ModelCaller:
    """One model of one Ollama, with a breaker in front of it. Every ask is given to `record`."""

    def __init__(
        self,
        host: str,
        model: str,
        record: Callable[[ModelCall], None] | None = None,
        *,
        breaker: CircuitBreaker | None = None,
    ) -> None:
        self.model = model
        self.breaker = breaker or CircuitBreaker()
        self.gone = False  # the server or the model is not there: look again before asking again
        self._host = host
        self._record = record
        self._client: ollama.AsyncClient | None = None
        self._loading: asyncio.Task[None] | None = None
        self._last_failure = "it failed before"

    async def ask(
        self,
        draft: type[D],
        purpose: str,
        messages: Sequence[Mapping[str, str]],
        limits: CallLimits,
        *,
        tokens: int,
        roles: Sequence[str] = (),
    ) -> D:
        """The model's answer as a `draft`. Raises NoAnswer, and nothing else, for whatever went wrong."""
        if not self.breaker.allows():
            wait = self.breaker.seconds_until_probe
            raise NoAnswer(
                f"{self.model} is left alone{f' for {wait:.0f} s more' if wait else ''}: {self._last_failure}", "left alone"
            )
        probing, settled = self.breaker.state is BreakerState.HALF_OPEN, False
        try:
            answer = await self._ask_twice(_Ask(draft, purpose, limits, tokens, schema_of(draft, roles)), messages)
        except NoAnswer as failure:
            settled = True
            self._failed(failure.reason)
            raise
        else:
            settled = True
            self.breaker.succeeded()
            return answer
        finally:
            if probing and not settled:  # cancelled: the breaker would wait for ever for what its probe found
                self._failed("the probe was interrupted")

    async def close(self) -> None:
        if self._loading is not None:
            self._loading.cancel()
        if self._client is not None:
            await self._client.close()

    def _failed(self, reason: str) -> None:
        self._last_failure = reason
        self.breaker.failed(reason)

    async def _ask_twice(self, ask: _Ask[D], messages: Sequence[Mapping[str, str]]) -> D:
        deadline = time.monotonic() + ask.limits.total
        load_ms = await self._loaded(ask, deadline)
        try:
            return await self._ask(ask, messages, deadline, load_ms)
        except Unusable as first:
            if deadline - time.monotonic() < ask.limits.answer * _TIME_TO_REPAIR:
                raise NoAnswer(f"{self.model}: {first.reason}, and no time to ask again", first.outcome) from None
            again = [
                *messages,
                {"role": "assistant", "content": bad_answer(first.content)},
                {"role": "user", "content": repair_prompt(first.reason)},
            ]
        try:
            return await self._ask(replace(ask, purpose=f"{ask.purpose}, again"), again, deadline, None)
        except Unusable as second:
            raise NoAnswer(f"{self.model} was asked twice: {second.reason}", second.outcome) from None

    async def _loaded(self, ask: _Ask[D], deadline: float) -> float:
        """Wait until the model is in memory; how long that took, in milliseconds."""
        started = time.monotonic()
        if self._loading is None or self._loading.done():
            self._loading = asyncio.create_task(self._load(ask.limits), name=f"load {self.model}")
            self._loading.add_done_callback(lambda task: task.cancelled() or task.exception())
        loading = self._loading
        await asyncio.wait({loading}, timeout=max(0.0, deadline - started))
        waited = time.monotonic() - started
        error = loading.exception() if loading.done() and not loading.cancelled() else None
        if loading.done() and not loading.cancelled() and error is None:
            return waited * 1e3
        if isinstance(error, CALL_ERRORS):
            failure = self._failure(error, waited)
        else:
            failure = NoAnswer(f"{self.model} was not loaded within {waited:.3g} s", "still loading")
        self._note(ModelCall(self.model, ask.purpose, failure.outcome, load_ms=waited * 1e3, total_ms=waited * 1e3))
        raise failure from error

    async def _load(self, limits: CallLimits) -> None:
        """An empty conversation makes Ollama load the model and answer when it is there, at once if it is already."""
        async with asyncio.timeout(limits.load):
            await self._connected(limits).chat(model=self.model, messages=[], options={"num_ctx": CONTEXT_TOKENS})

    async def _ask(self, ask: _Ask[D], messages: Sequence[Mapping[str, str]], deadline: float, load_ms: float | None) -> D:
        started = time.monotonic()
        first: float | None = None
        content, last = "", None
        outcome = "cancelled"
        try:
            async with asyncio.timeout(min(ask.limits.answer, deadline - started)):
                stream = await self._connected(ask.limits).chat(
                    model=self.model,
                    messages=list(messages),
                    stream=True,
                    format=ask.schema,
                    think=False,
                    options={"num_ctx": CONTEXT_TOKENS, "num_predict": ask.tokens, "temperature": TEMPERATURE},
                )
                async with contextlib.aclosing(stream) as chunks:  # type: ignore[type-var]
                    async for chunk in chunks:
                        first = first or (time.monotonic() - started) * 1e3
                        content += chunk.message.content or ""
                        last = chunk
                        if len(content) > _ANSWER_CHARACTERS:
                            raise Unusable("it did not come to an end", "endless", content)
                        if chunk.done:
                            break
            answer = self._usable(ask.draft, content, last)
            outcome = "ok"
            return answer
        except NoAnswer as no_answer:
            outcome = no_answer.outcome
            raise
        except CALL_ERRORS as error:
            failure = self._failure(error, time.monotonic() - started)
            outcome = failure.outcome
            raise failure from error
        finally:
            self._note(
                ModelCall(
                    self.model,
                    ask.purpose,
                    outcome,
                    load_ms=_sum(load_ms, _milliseconds(last, "load_duration")),
                    first_token_ms=first,
                    total_ms=(time.monotonic() - started) * 1e3 + (load_ms or 0.0),
                    prompt_tokens=_number(last, "prompt_eval_count"),
                    output_tokens=_number(last, "eval_count"),
                )
            )

    def _usable(self, draft: type[D], content: str, last: Any) -> D:
        if last is None or not last.done:
            raise Unusable("the answer broke off before its end", "broke off", content)
        try:
            return read(draft, content)
        except ValidationError as error:
            if last.done_reason == "length":
                raise Unusable("the answer was cut off at its greatest length", "too long", content) from None
            raise Unusable(f"the answer is not what was asked for ({_problem(error)})", "nonsense", content) from None

    def _connected(self, limits: CallLimits) -> ollama.AsyncClient:
        if self._client is None:
            # A proxy is never asked for this; waiting is bounded by our own limits, connecting by this one.
            self._client = ollama.AsyncClient(
                self._host, timeout=httpx.Timeout(None, connect=limits.connect), trust_env=False
            )
        return self._client

    def _failure(self, error: BaseException, seconds: float) -> NoAnswer:
        if isinstance(error, ollama.ResponseError):
            said = inert(error.error)[:_REASON_CHARACTERS]
            self.gone = self.gone or error.status_code == 404
            status = f"status {error.status_code}" if error.status_code > 0 else "in the middle of its answer"
            outcome = f"http {error.status_code}" if error.status_code > 0 else "error in stream"
            return NoAnswer(f"Ollama said, {status}: {said}", outcome)
        if isinstance(error, ConnectionError | httpx.ConnectError | httpx.ConnectTimeout):
            self.gone = True
            return NoAnswer("Ollama can't be reached", "unreachable")
        if isinstance(error, TimeoutError | httpx.TimeoutException):
            return NoAnswer(f"{self.model} gave no answer within {seconds:.3g} s", "timeout")
        if isinstance(error, httpx.TransportError | httpx.StreamError | OSError):
            return NoAnswer("the connection to Ollama was cut", "cut")
        return NoAnswer(f"Ollama's reply can't be read ({type(error).__name__})", "unreadable")

    def _note(self, call: ModelCall) -> None:
        if self._record is not None:
            self._record(call)


def _problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else str(first["msg"])


def _milliseconds(chunk: Any, name: str) -> float | None:
    value = getattr(chunk, name, None)
    return None if value is None else value / _MILLION


def _number(chunk: Any, name: str) -> int | None:
    value = getattr(chunk, name, None)
    return None if value is None else min(int(value), 2**31 - 1)


def _sum(*values: float | None) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
