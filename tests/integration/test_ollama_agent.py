"""An agent as a process whose mind is a model."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace

from echo_core.bus.announcements import Announcements
from echo_core.bus.message import Message
from echo_core.bus.publish import publish
from echo_core.settings import Settings
from echo_core.storage.database import Database
from tests.support.eventually import eventually
from tests.support.ollama_process import OllamaProcess


async def test_an_agent_answers_with_a_model_and_leaves_a_record_of_each_call(
    settings: Settings, database_url: str, redis_url: str, ollama_server: OllamaProcess
) -> None:
    settings = replace(settings, llm="auto", ollama_host=ollama_server.host)
    database, announcements = Database(database_url, name="test"), Announcements(redis_url, name="test")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "echo_core.agents", "cto", "--autonomous", "--supervised"),
        env={**os.environ, **settings.environment()},
    )

    async def answer_to(message: Message) -> Message:
        async def found() -> list[Message]:
            async with database.session() as connection:
                cursor = await connection.execute("SELECT * FROM messages WHERE in_reply_to = %s", [message.id])
                return [Message.from_row(row) for row in await cursor.fetchall()]

        (answer,) = await eventually(found)
        return answer

    try:
        asked = Message.compose("operator", "cto", "request", "Move billing to PostgreSQL 18?", "It takes 3 weeks.")
        answer = await answer_to(await publish(database, announcements, asked))
        assert (answer.content["source"], answer.content["model"]) == ("llm", "llama3.2:latest")
        await ollama_server.script({"kind": "nonsense"}, {"kind": "length"})
        again = Message.compose("operator", "cto", "request", "And the invoices?", "They are PDF.")
        answer = await answer_to(await publish(database, announcements, again))
        assert answer.content["source"] == "rules"
        assert "cut off" in answer.content["fallback_reason"]
        async with database.session() as connection:
            rows = await (await connection.execute("SELECT * FROM llm_calls ORDER BY id")).fetchall()
        assert [(row["role"], row["model"], row["purpose"], row["outcome"]) for row in rows] == [
            ("cto", "llama3.2:latest", "contribute", "ok"),
            ("cto", "llama3.2:latest", "contribute", "nonsense"),
            ("cto", "llama3.2:latest", "contribute, again", "too long"),
        ]
        assert rows[0]["prompt_tokens"] > 0
        assert rows[0]["output_tokens"] > 0
        assert 0 < rows[0]["first_token_ms"] < rows[0]["total_ms"]
        log = (settings.logs_dir / "cto.log").read_text()
        assert "mind     thinks with llama3.2:latest" in log
        assert "reply    llm: " in log
        assert "(no model: llama3.2:latest was asked twice: " in log
    finally:
        process.terminate()
        await process.wait()
        await announcements.close()
        await database.close()
