"""The stand-in is only worth something if the real client takes it for an Ollama."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import ollama
import pytest

from echo_core.minds.drafts import ContributionDraft, JudgementDraft, OutcomeDraft, VoteDraft, schema_of
from tests.support.eventually import eventually
from tests.support.ollama_process import OllamaProcess

ASK = [{"role": "user", "content": "Should we <buy> lamps & chairs?"}]


@pytest.fixture
async def client(ollama_server: OllamaProcess) -> AsyncIterator[ollama.AsyncClient]:
    async with ollama.AsyncClient(ollama_server.host, trust_env=False) as client:
        yield client


@pytest.fixture
async def http(ollama_server: OllamaProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=ollama_server.host, trust_env=False) as client:
        yield client


async def test_the_client_lists_shows_and_talks(client: ollama.AsyncClient) -> None:
    assert [model.model for model in (await client.list()).models] == ["llama3.2:latest"]
    assert (await client.show("llama3.2")).capabilities == ["completion"]
    assert (await client.ps()).models == []
    whole = await client.chat("llama3.2", ASK)
    assert (whole.done, whole.done_reason, whole.model) == (True, "stop", "llama3.2")
    assert [model.model for model in (await client.ps()).models] == ["llama3.2:latest"]
    chunks = [chunk async for chunk in await client.chat("llama3.2", ASK, stream=True)]
    assert "".join(chunk.message.content or "" for chunk in chunks) == whole.message.content
    assert [chunk.done for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].eval_count == len(chunks) - 1


@pytest.mark.parametrize("draft", [JudgementDraft, ContributionDraft, VoteDraft, OutcomeDraft])
async def test_an_answer_fits_its_schema_with_its_keys_sorted(client: ollama.AsyncClient, draft: type) -> None:
    answer = await client.chat("llama3.2", ASK, format=schema_of(draft, ["ceo", "cto"]))
    content = answer.message.content or ""
    draft.model_validate_json(content)  # type: ignore[attr-defined]
    keys = list(json.loads(content))
    assert keys == sorted(keys)


async def test_errors_have_ollama_s_bodies(http: httpx.AsyncClient) -> None:
    async def post(body: object, path: str = "/api/chat") -> tuple[int, str]:
        answer = await http.post(path, content=body if isinstance(body, str) else json.dumps(body))
        return answer.status_code, answer.json()["error"]

    assert await post("") == (400, "missing request body")
    assert await post({}) == (400, "model is required")
    assert await post({"model": "no"}) == (404, "model 'no' not found")
    assert await post({"model": "no"}, "/api/show") == (404, "model 'no:latest' not found")
    unknown, wrong = await http.get("/api/nothing"), await http.delete("/api/chat")
    assert (unknown.status_code, unknown.text) == (404, "404 page not found")
    assert (wrong.status_code, wrong.text) == (405, "405 method not allowed")
    assert ((await http.get("/")).text, (await http.head("/")).text) == ("Ollama is running", "")


async def test_a_stream_is_one_compact_line_a_chunk_safe_inside_html(http: httpx.AsyncClient) -> None:
    answer = await http.post("/api/chat", json={"model": "llama3.2", "messages": ASK, "format": "json"})
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert answer.headers["transfer-encoding"] == "chunked"
    lines = answer.text.splitlines()
    assert all(json.loads(line)["model"] == "llama3.2" for line in lines)
    assert not {"<", ">", "&"} & set(answer.text)


async def test_whoever_began_a_load_and_leaves_ends_it_and_the_next_begins_anew(
    client: ollama.AsyncClient, ollama_server: OllamaProcess
) -> None:
    await ollama_server.script(load_seconds=60)
    first = asyncio.create_task(client.chat("llama3.2", []))
    await eventually(ollama_server.requests)
    assert (await client.ps()).models == []
    first.cancel()
    await asyncio.wait({first})
    await ollama_server.script(load_seconds=0)
    assert (await client.chat("llama3.2", [])).done_reason == "load"


async def test_a_server_told_to_refuse_comes_back(client: ollama.AsyncClient, ollama_server: OllamaProcess) -> None:
    await ollama_server.script({"kind": "refuse", "seconds": 1.5})
    refused = 0

    async def refuses() -> bool:
        nonlocal refused
        async with ollama.AsyncClient(ollama_server.host, trust_env=False) as stranger:
            try:
                await stranger.list()
            except ConnectionError:
                refused += 1
        return refused > 0

    await eventually(refuses)

    async def is_back() -> bool:
        async with ollama.AsyncClient(ollama_server.host, trust_env=False) as stranger:
            try:
                return bool((await stranger.list()).models)
            except ConnectionError:
                return False

    await eventually(is_back)
