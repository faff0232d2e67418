"""What a person should see, at three sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.ui import scenes


@pytest.mark.parametrize("size", scenes.SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", scenes.SCENES)
def test_the_control_room_looks_as_it_should(snap_compare: Callable[..., Any], name: str, size: tuple[int, int]) -> None:
    assert snap_compare(scenes.control_room(), terminal_size=size, run_before=scenes.SCENES[name])
