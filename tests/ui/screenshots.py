"""`python -m tests.ui.screenshots FOLDER`: SVG pictures of the real control room, with the data of the UI tests."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.ui import scenes

PICTURES = {
    "control-room": (scenes.in_phase(4), (120, 36)),
    "launch": (scenes.launch, (120, 36)),
    "composer": (scenes.composing, (120, 36)),
    "self-selection": (scenes.in_phase(3), (120, 36)),
    "discussion": (scenes.in_phase(4), (200, 60)),
    "consensus": (scenes.in_phase(5), (120, 36)),
    "decision": (scenes.deciding, (120, 36)),
    "crash": (scenes.crashed, (120, 36)),
    "help": (scenes.helping, (120, 36)),
    "narrow": (scenes.in_phase(4), (80, 24)),
}


async def draw(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, (scene, size) in PICTURES.items():
        app = scenes.control_room()
        async with app.run_test(size=size) as pilot:
            await scene(pilot)
            (folder / f"{name}.svg").write_text(app.export_screenshot(title="ECHO", simplify=True), encoding="utf-8")
        print(folder / f"{name}.svg")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.ui.screenshots FOLDER")
    asyncio.run(draw(Path(sys.argv[1])))
