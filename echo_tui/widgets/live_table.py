"""A table that is told all its rows again and again, and changes only the cells that differ: cursor and scroll stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual.widgets import DataTable

from echo_tui.columns import Part, fit

PADDING = 2  # cells a column takes beside its width


@dataclass(frozen=True, slots=True)
class Column:
    """`width` in cells; `right` for numbers."""

    label: str
    width: int
    right: bool = False


class LiveTable(DataTable[Text]):
    """Rows by key. Cells are a text and one of the tones below; every text is shown as it is, cut to its column."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "live-table--accent",
        "live-table--success",
        "live-table--warning",
        "live-table--error",
        "live-table--muted",
    }
    DEFAULT_CSS = """
    LiveTable {
        background: $background;
        background-tint: transparent;
        height: 1fr;
        scrollbar-size-horizontal: 0;
        & > .datatable--header { background: $background; color: $text-muted; text-style: none; }
        & > .datatable--even-row { background: $background; }
        & > .datatable--odd-row { background: $background; }
        & > .datatable--cursor { background: $panel; color: $foreground; }
        &:focus { background-tint: transparent; }
        &:focus > .datatable--header { background-tint: transparent; }
        &:focus > .datatable--cursor { background: $accent 30%; color: $foreground; text-style: none; }
        & > .live-table--accent { color: $accent; }
        & > .live-table--success { color: $success; }
        & > .live-table--warning { color: $warning; }
        & > .live-table--error { color: $error; }
        & > .live-table--muted { color: $text-muted; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, cursor_type="row", cursor_foreground_priority="renderable")
        self._shown_columns: tuple[Column, ...] = ()
        self._shown: dict[str, tuple[Part, ...]] = {}
        self._styles: dict[str, Style] = {}  # of the present theme, by tone

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, lambda _theme: self._again())

    @property
    def selected(self) -> str | None:
        """The key of the row under the cursor."""
        if not self.row_count:
            return None
        return self.coordinate_to_cell_key(self.cursor_coordinate).row_key.value

    def show_rows(self, columns: Sequence[Column], rows: Mapping[str, Sequence[Part]]) -> None:
        wanted = {key: tuple(cells) for key, cells in rows.items()}
        if tuple(columns) != self._shown_columns:
            self._rebuild(tuple(columns), wanted)
        elif list(wanted) != list(self._shown):
            self._fill(wanted)
        else:
            names = list(self.columns)
            for key, cells in wanted.items():
                for index, cell in enumerate(cells):
                    if cell != self._shown[key][index]:
                        self.update_cell(key, names[index], self._cell(cell, self._shown_columns[index]))
            self._shown = wanted

    def _again(self) -> None:
        self._styles.clear()
        self._fill(self._shown)

    def _rebuild(self, columns: tuple[Column, ...], rows: dict[str, tuple[Part, ...]]) -> None:
        selected, top = self.selected, self.scroll_y
        self.clear(columns=True)
        self._shown_columns = columns
        for column in columns:
            self.add_column(Text(fit(column.label, column.width, right=column.right)), width=column.width)
        self._fill(rows, selected, top)

    def _fill(self, rows: dict[str, tuple[Part, ...]], selected: str | None = None, top: float | None = None) -> None:
        selected = selected or self.selected
        top = self.scroll_y if top is None else top
        with self.app.batch_update(), self.prevent(DataTable.RowHighlighted):
            self.clear()
            for key, cells in rows.items():
                shown = [self._cell(cell, column) for cell, column in zip(cells, self._shown_columns, strict=True)]
                self.add_row(*shown, key=key)
            self._shown = rows
            self.scroll_to(y=top, animate=False, immediate=True)
            if selected in rows:
                self.move_cursor(row=self.get_row_index(selected))

    def _cell(self, cell: Part, column: Column) -> Text:
        text, tone = cell
        style = self._style(tone)
        return Text(fit(text, column.width, right=column.right), style=style, no_wrap=True, end="")

    def _style(self, tone: str) -> Style:
        if tone and tone not in self._styles:
            self._styles[tone] = self.get_component_rich_style(f"live-table--{tone}", partial=True)
        return self._styles[tone] if tone else Style.null()
