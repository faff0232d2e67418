"""The decisions on record, newest first; the first line follows whatever is newest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from echo_tui.columns import clip, row
from echo_tui.widgets.minutes import MUTED, STATUS, local, shape

NEWEST = "newest"  # the option that chooses none


class DecisionList(OptionList):
    """Two lines for each decision. Keeps its place when it is told the rows again."""

    DEFAULT_CSS = """
    DecisionList {
        background: $background;
        border: none;
        padding: 0;
        scrollbar-size-vertical: 1;
        & > .option-list--option { padding: 0 1; }
        & > .option-list--option-highlighted { background: $panel; color: $foreground; text-style: none; }
        &:focus { border: none; background-tint: transparent; }
        &:focus > .option-list--option-highlighted { background: $accent 30%; color: $foreground; text-style: none; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, markup=False)
        self._shown: tuple[Any, ...] = ()

    def show(self, rows: Sequence[dict[str, Any]], shown_id: str | None) -> None:
        """`shown_id` is the decision beside the list."""
        width = max(16, self.content_size.width - 2 - (1 if len(rows) * 2 + 1 > self.size.height else 0))
        told = (width, shown_id, tuple((each["id"], each["status"], each["phase"], each["score"]) for each in rows))
        if told == self._shown:
            return
        self._shown = told
        place, top = self.highlighted_option, self.scroll_y
        head = Content.styled(clip("Follow the newest", width) if rows else "No decision yet", MUTED)
        options = [Option(head, id=NEWEST)]
        options += [Option(_prompt(each, width, each["id"] == shown_id), id=each["id"]) for each in rows]
        self.set_options(options)
        wanted = place.id if place is not None and place.id is not None else shown_id
        if wanted is not None and any(option.id == wanted for option in options):
            self.highlighted = self.get_option_index(wanted)
        self.scroll_to(y=top, animate=False, immediate=True)


def _prompt(decision: dict[str, Any], width: int, shown: bool) -> Content:
    drawn, colour = shape(STATUS, decision["status"])
    number = f"#{decision['number']} "
    subject = clip(decision["subject"], width - 2 - len(number))
    first = Content.assemble((f"{drawn} ", colour), (number, MUTED), (subject, "bold" if shown else ""))
    state = f"phase {decision['phase']} of 6" if decision["status"] == "pending" else decision["status"]
    if decision["score"] is not None and decision["status"] != "pending":
        state += f" {decision['score']:.2f}"
    second = row([(f"  {state}", MUTED)], [(local(decision["inserted_at"])[5:16], MUTED)], width)
    return Content("\n").join([first, second])
