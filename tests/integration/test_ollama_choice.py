"""Which mind an agent has while an Ollama comes, goes and changes its models."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from echo_core.minds.choose import AdaptiveMind, choose_mind, installed_models
from echo_core.minds.protocol import Question
from echo_core.organisation import Organisation
from echo_core.settings import Settings
from tests.support.ollama_process import OllamaProcess

QUESTION = Question(subject="Should we move billing to PostgreSQL 18?", body="It takes 3 weeks.")


class Said:
    def __init__(self) -> None:
        self.log: list[str] = []
        self.warn: list[str] = []


@pytest.fixture
def said() -> Said:
    return Said()


@pytest.fixture
async def adaptive(
    organisation: Organisation, data_dir: Path, ollama_server: OllamaProcess, said: Said
) -> AsyncIterator[Callable[[str], AdaptiveMind]]:
    made: list[AdaptiveMind] = []

    def mind(llm: str = "auto") -> AdaptiveMind:
        settings = Settings.load(data_dir=data_dir, ollama_host=ollama_server.host, environ={"ECHO_LLM": llm})
        role = organisation.role("cto")
        made.append(
            AdaptiveMind(role, organisation, settings, None, said.log.append, said.warn.append, look_again_seconds=0)
        )
        return made[-1]

    yield mind
    for adaptive_mind in made:
        await adaptive_mind.close()


async def test_a_server_that_appears_and_goes_again_is_noticed(
    adaptive: Callable[[], AdaptiveMind], ollama_server: OllamaProcess, said: Said
) -> None:
    ollama_server.stop()
    mind = adaptive()
    first = await mind.vote(QUESTION, [])
    assert (first.source, mind.label, mind.breaker, mind.ollama_reachable) == ("rules", "rules", None, False)
    ollama_server.start()
    second = await mind.vote(QUESTION, [])
    assert (second.source, second.model) == ("llm", "llama3.2:latest")
    assert (mind.label, mind.ollama_reachable) == ("llama3.2:latest", True)
    assert mind.breaker is not None
    assert mind.breaker.state == "closed"
    ollama_server.stop()
    assert (await mind.vote(QUESTION, [])).source == "rules"
    assert [line.split(":")[0] for line in said.log] == ["answers by rules", "thinks with llama3.2", "answers by rules"]
    assert said.warn == []


async def test_a_server_that_goes_between_two_looks_is_missed_once_and_looked_for_at_once(
    organisation: Organisation, data_dir: Path, ollama_server: OllamaProcess
) -> None:
    settings = Settings.load(data_dir=data_dir, ollama_host=ollama_server.host, environ={})
    mind = AdaptiveMind(organisation.role("cto"), organisation, settings, look_again_seconds=3_600)
    assert (await mind.vote(QUESTION, [])).source == "llm"
    ollama_server.stop()
    assert (await mind.vote(QUESTION, [])).fallback_reason == "Ollama can't be reached"
    await mind.vote(QUESTION, [])
    assert (mind.label, mind.ollama_reachable) == ("rules", False)
    await mind.close()


async def test_without_the_preferred_model_the_first_that_converses_is_used_and_the_log_says_so(
    adaptive: Callable[[], AdaptiveMind], ollama_server: OllamaProcess, said: Said
) -> None:
    models = {"nomic-embed-text": ["embedding"], "qwen3:4b": ["completion", "tools"], "old": []}
    await ollama_server.script(models=models)
    assert await installed_models(ollama_server.host) == ["qwen3:4b", "old:latest"]
    mind = adaptive()
    assert (await mind.vote(QUESTION, [])).model == "qwen3:4b"
    assert said.log == ["thinks with qwen3:4b (llama3.2 is not installed)"]
    await ollama_server.script(models={**models, "llama3.2": ["completion"]})
    assert (await mind.vote(QUESTION, [])).model == "llama3.2:latest"
    assert said.log[1:] == ["thinks with llama3.2:latest"]


async def test_a_server_with_nothing_that_converses_means_rules(
    adaptive: Callable[[], AdaptiveMind], ollama_server: OllamaProcess, said: Said
) -> None:
    await ollama_server.script(models={"nomic-embed-text": ["embedding"]})
    mind = adaptive()
    assert (await mind.vote(QUESTION, [])).source == "rules"
    assert mind.ollama_reachable
    assert "has no model installed" in said.log[0]


async def test_who_insists_on_a_model_still_gets_answers_and_is_told_loudly_that_they_are_by_rules(
    adaptive: Callable[[str], AdaptiveMind], ollama_server: OllamaProcess, said: Said
) -> None:
    ollama_server.stop()
    mind = adaptive("ollama")
    for _ in range(3):
        vote = await mind.vote(QUESTION, [])
        assert vote.source == "rules"
        assert "can't be reached" in vote.fallback_reason
    (warning,) = said.warn
    assert ollama_server.host in warning
    assert "ollama serve" in warning


async def test_a_breaker_that_opens_is_warned_of_and_outlives_its_server(
    adaptive: Callable[[], AdaptiveMind], ollama_server: OllamaProcess, said: Said
) -> None:
    mind = adaptive()
    await ollama_server.script({"kind": "500", "times": 9})
    for _ in range(2):
        await mind.vote(QUESTION, [])
    assert mind.breaker is not None
    assert mind.breaker.state == "open"
    assert "left alone" in (await mind.vote(QUESTION, [])).fallback_reason
    assert [line.split(" (")[0] for line in said.warn] == ["breaker of llama3.2:latest: closed -> open"]
    ollama_server.stop()
    await mind.vote(QUESTION, [])
    ollama_server.start()
    await mind.look()
    assert mind.breaker is not None
    assert mind.breaker.state == "open"


async def test_a_mind_is_chosen_without_waiting_for_a_server(
    organisation: Organisation, settings: Settings, ollama_server: OllamaProcess
) -> None:
    role = organisation.role("cto")
    off = await choose_mind(role, organisation, replace(settings, ollama_host=ollama_server.host))
    assert getattr(off, "label", "") == "rules"
    there = await choose_mind(role, organisation, replace(settings, llm="auto", ollama_host=ollama_server.host))
    assert getattr(there, "label", "") == "llama3.2:latest"
    ollama_server.stop()
    gone = await choose_mind(role, organisation, replace(settings, llm="auto", ollama_host=ollama_server.host))
    assert getattr(gone, "label", "") == "rules"
