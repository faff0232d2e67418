"""The models screen: what makes the answers, what it took, and how to get a model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from echo_core.snapshot import DependencyView
from echo_tui.screens.models import ModelsScreen
from echo_tui.state import RoomState
from tests.support.eventually import eventually
from tests.ui import data
from tests.ui.stage import Stage, text_of

SIZES = [(80, 24), (120, 36), (200, 60)]


@pytest.mark.parametrize("size", SIZES)
async def test_models_minds_and_figures_are_shown_at_every_size(size: tuple[int, int]) -> None:
    app = Stage(ModelsScreen(data.room(snapshot=data.snapshot(ollama=True)), data.FixedLink()))  # type: ignore[arg-type]
    async with app.run_test(size=size):
        await eventually(lambda: "Operations head    llama3.2:latest" in text_of(app))
        shown = text_of(app)
    assert "127.0.0.1:11434" in shown
    assert "mistral:7b-instruct" in shown
    assert "6 of 6 agents think with a model" in shown
    assert "9.0s" in shown


async def test_without_ollama_it_says_that_rules_answer_and_how_to_get_a_model() -> None:
    app = Stage(ModelsScreen(data.room()))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        shown = text_of(app)
    assert "Rules answer for every agent" in shown
    for how in ("ollama pull llama3.2", "OLLAMA_HOST", "ECHO_MODEL", "ECHO_LLM"):
        assert how in shown


async def test_an_ollama_without_models_is_told_from_one_that_is_away() -> None:
    empty = data.snapshot(dependencies=(DependencyView("ollama", "off", "no model installed: rules"),))
    screen = ModelsScreen(data.room(snapshot=empty))
    app = Stage(screen)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert "has no model installed" in text_of(app)
        screen.show(data.room())
        await pilot.pause()
        assert "It does not answer there" in text_of(app)


async def test_models_that_are_not_wanted_are_not_called_missing() -> None:
    link = data.FixedLink()
    link.settings = replace(link.settings, llm="off")
    app = Stage(ModelsScreen(data.room(), link))  # type: ignore[arg-type]
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert "ECHO_LLM=off" in text_of(app)
        assert "It does not answer" not in text_of(app)


async def test_an_unreachable_database_is_told_in_one_line() -> None:
    link = data.FixedLink()
    link.error = data.UNREACHABLE
    app = Stage(ModelsScreen(data.room(), link))  # type: ignore[arg-type]
    async with app.run_test(size=(120, 36)):
        await eventually(lambda: str(data.UNREACHABLE) in text_of(app))
        assert "Waiting for PostgreSQL to answer" in text_of(app)


async def test_without_a_supervisor_it_says_what_it_waits_for() -> None:
    app = Stage(ModelsScreen(RoomState(waited_seconds=2.5)))
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert "Waiting for the supervisor: 2.5s" in text_of(app)


async def test_names_of_models_are_shown_as_text() -> None:
    app = Stage(ModelsScreen(data.hostile_room(), data.FixedLink(text=data.HOSTILE)))  # type: ignore[arg-type]
    async with app.run_test(size=(200, 60)):
        await eventually(lambda: "llama3.2:latest[bold]x[/]" in text_of(app))
        shown = text_of(app)
    assert "evil[bold]x[/] [/] \\x1b[31mred" in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown
