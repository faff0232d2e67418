"""The messages on record, with the state of every delivery, and dead letters to be sent again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Container, VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import DataTable, Static

from echo_core.bus.message import GROUPS, Message
from echo_core.errors import EchoError
from echo_tui.columns import Part
from echo_tui.glyphs import either
from echo_tui.screens.sheet import NARROW, Key, Sheet
from echo_tui.state import RoomState
from echo_tui.widgets.live_table import PADDING, Column, LiveTable
from echo_tui.widgets.page import Page

if TYPE_CHECKING:
    from echo_tui.link import Link

READ_SECONDS = 2.0
NEWEST = 200  # messages shown
MOST_DEAD = 10_000  # dead letters that one key press sends again
_BESIDE = 150  # columns from which a message is read beside the table
_MUTED = "$text-muted"
_STATES = {
    "pending": ("◌", ".", _MUTED, "waiting"),
    "claimed": ("◐", "*", "$accent", "in hand"),
    "handled": ("✔", "+", "$success", "handled"),
    "dead": ("✕", "x", "$error", "dead"),
}
_COLUMNS = (
    (Column("time", 8), 0),
    (Column("#", 6, right=True), 0),
    (Column("from", 12), 0),
    (Column("to", 12), 0),
    (Column("type", 12), NARROW),
    (Column("deliveries", 14), 0),
    (Column("subject", 10), 0),
)
_ORDER = ("dead", "claimed", "pending", "handled")  # what needs a look first
Listed = tuple[Message, Sequence[dict[str, Any]]]


class MessagesScreen(Sheet):
    """Reads itself anew every two seconds; the cursor stays on its message."""

    DEFAULT_CSS = """
    MessagesScreen {
        & > #both { height: 1fr; layout: vertical; }
        & #table { height: 3fr; margin-top: 1; }
        & #one { height: 2fr; border-top: solid $panel; padding: 0 1; scrollbar-size-vertical: 1; }
        & #empty { height: 1fr; padding: 1 1; display: none; }
        &.beside > #both { layout: horizontal; }
        &.beside #table { width: 3fr; height: 1fr; }
        &.beside #one { width: 2fr; height: 1fr; border-top: none; border-left: solid $panel; padding: 1 2; }
        &.empty #table, &.empty #one { display: none; }
        &.empty #empty { display: block; }
    }
    """
    AUTO_FOCUS = "#table"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("x", "dead_only", "dead letters only", id="messages.dead"),
        Binding("t", "retry", "deliver this dead letter again", id="messages.retry"),
        Binding("T", "retry_all", "deliver all dead letters again", id="messages.retry-all"),
        Binding("u", "refresh_now", "read again", id="messages.refresh"),
    ]

    def __init__(self, state: RoomState, link: Link | None = None) -> None:
        super().__init__(state, link)
        self._listed: dict[str, Listed] = {}
        self._read = False
        self._dead_only = False
        self._drawn: tuple[object, ...] = ()

    def body(self) -> Iterable[Widget]:
        yield Container(
            LiveTable(id="table"),
            VerticalScroll(Static(id="message", markup=False), id="one", can_focus=True),
            Static(id="empty", markup=False),
            id="both",
        )

    def on_mount(self) -> None:
        super().on_mount()
        self._read_messages()
        self.set_interval(READ_SECONDS, self._read_messages)

    # -- what it shows -------------------------------------------------------------------------------------------------

    def paint(self) -> None:
        dead = self.state.snapshot.dead if self.state.snapshot else 0
        left: list[Part] = [("Messages", "bold"), ("  dead letters only" if self._dead_only else "", "$warning")]
        self.title_line.say(left, [(_letters(dead), "$error")] if dead else [])
        self.set_class(self.size.width >= _BESIDE, "beside")
        self.set_class(not self._listed, "empty")
        self.query_one("#empty", Static).update(Content.styled(self._empty(), _MUTED))
        drawn = (self._listed, self.size.width, self.state.titles)
        if drawn != self._drawn:  # a new state comes every second, new messages less often
            self._drawn = drawn
            self._paint_table()
        self._paint_one()

    def _paint_table(self) -> None:
        width = self.size.width * 3 // 5 if self.size.width >= _BESIDE else self.size.width
        columns = [column for column, least in _COLUMNS if self.size.width >= least]
        if self.size.width >= NARROW:
            columns = [
                Column(c.label, {"from": 16, "to": 16, "deliveries": 20}.get(c.label, c.width), c.right) for c in columns
            ]
        taken = sum(column.width + PADDING for column in columns[:-1])
        columns[-1] = Column("subject", max(10, width - taken - PADDING - 2))  # the scroll bar may need two
        names = [column.label for column in columns]
        rows = {key: [self._cells(one)[name] for name in names] for key, one in self._listed.items()}
        self.query_one(LiveTable).show_rows(columns, rows)

    def _empty(self) -> str:
        if self.link is None:
            return "Messages stand in PostgreSQL, and this screen has no way to it yet."
        if not self._read:
            return "Waiting for PostgreSQL to answer."
        if self._dead_only:
            return "No dead letters: everything was handled, or is still on its way. Press x to see all messages."
        return "No messages yet. Press escape, then b to send one."

    def _cells(self, one: Listed) -> dict[str, Part]:
        message, deliveries = one
        counts = Counter(str(each["state"]) for each in deliveries)
        at = f"{message.inserted_at.astimezone():%H:%M:%S}" if message.inserted_at else ""
        return {
            "time": (at, "muted"),
            "#": (str(message.id), "muted"),
            "from": (self.state.title(message.from_role), ""),
            "to": (self._to(message), ""),
            "type": (message.type, "warning" if message.type == "escalation" else "muted"),
            "deliveries": (_in_words(counts, self.size.width < NARROW), "error" if "dead" in counts else "muted"),
            "subject": (message.subject, ""),
        }

    def _to(self, message: Message) -> str:
        return message.to_role if message.to_role in GROUPS else self.state.title(message.to_role)

    @on(DataTable.RowHighlighted)
    def _paint_one(self) -> None:
        one = self._selected()
        width = self.query_one("#one").scrollable_content_region.width or self.size.width - 2
        self.query_one("#message", Static).update(self._whole(one, width) if one else "")
        self.say_keys(self._keys(one))

    def _whole(self, one: Listed, width: int) -> Content:
        message, deliveries = one
        page = Page(width)
        page.text((message.subject, "bold"), first=(f"#{message.id}  ", _MUTED))
        at = f"{message.inserted_at.astimezone():%Y-%m-%d %H:%M:%S}" if message.inserted_at else ""
        told = f"{message.type} from {self.state.title(message.from_role)} to {self._to(message)}, {at}"
        told += f", in reply to #{message.in_reply_to}" if message.in_reply_to is not None else ""
        page.text((told, _MUTED))
        if message.body.strip():
            page.blank()
            page.text((message.body.strip(), ""))
        page.blank()
        if not deliveries:
            page.text(("It is owed to nobody.", _MUTED))
        for each in sorted(deliveries, key=lambda owed: _ORDER.index(str(owed["state"]))):
            drawn, plain, colour, word = _STATES[str(each["state"])]
            attempts = int(each["attempts"])
            tried = "" if not attempts else "1 attempt" if attempts == 1 else f"{attempts} attempts"
            who = self.state.title(str(each["role"]))
            cells = [[(either(drawn, plain), colour)], [(who, "")], [(word, colour)], [(tried, _MUTED)]]
            page.grid([1, 18, 8, 0], cells)
            if each.get("error"):
                page.text((str(each["error"]), "$warning"), indent=3)
        return Content("\n").join(page.lines)

    def _keys(self, one: Listed | None) -> list[Key]:
        dead = one is not None and any(each["state"] == "dead" for each in one[1])
        any_dead = any(each["state"] == "dead" for _, owed in self._listed.values() for each in owed)
        keys = [("t", "deliver it again")] if dead else []
        keys += [("T", "deliver all dead again")] if any_dead else []
        return [
            *keys,
            ("x", "all messages" if self._dead_only else "dead letters only"),
            ("u", "read again"),
            ("tab", "read"),
        ]

    def _selected(self) -> Listed | None:
        return self._listed.get(self.query_one(LiveTable).selected or "")

    # -- reading and sending again -------------------------------------------------------------------------------------

    @work(exclusive=True, group="read", exit_on_error=False)
    async def _read_messages(self) -> None:
        if self.link is None:
            return
        try:
            found = await self.link.messages(dead=self._dead_only, limit=NEWEST)
        except EchoError as error:
            self.trouble(str(error))
            return
        self.relieved()
        self._read = True
        self._listed = {str(message.id): (message, owed) for message, owed in found}
        self.paint()

    def action_dead_only(self) -> None:
        self._dead_only = not self._dead_only
        self._read_messages()
        self.paint()

    def action_refresh_now(self) -> None:
        self._read_messages()

    @work(exclusive=True, group="retry", exit_on_error=False)
    async def action_retry(self) -> None:
        one = self._selected()
        if one is None or not any(each["state"] == "dead" for each in one[1]):
            self.answer("Nothing to deliver again here: this message has no dead letter.")
        elif self.link is not None:
            await self._retry([one[0].id])

    @work(exclusive=True, group="retry", exit_on_error=False)
    async def action_retry_all(self) -> None:
        if self.link is None:
            return
        try:
            dead = await self.link.messages(dead=True, limit=MOST_DEAD)
        except EchoError as error:
            self.answer(str(error), urgent=True)
            return
        await self._retry([message.id for message, _ in dead])

    async def _retry(self, numbers: Iterable[int | None]) -> None:
        assert self.link is not None
        again = 0
        try:
            for number in numbers:
                if number is not None:
                    again += await self.link.retry(number)
        except EchoError as error:
            self.answer(f"{_letters(again)} delivered again; then: {error}" if again else str(error), urgent=True)
        else:
            self.answer(f"{_letters(again)} to be delivered again" if again else "No dead letters.")
        self._read_messages()


def _letters(count: int) -> str:
    return "1 dead letter" if count == 1 else f"{count} dead letters"


def _in_words(counts: Counter[str], short: bool) -> str:
    """`1 dead, 5 handled`, or `1 dead of 6`: what needs a look first."""
    told = [f"{counts[state]} {_STATES[state][3]}" for state in _ORDER if counts[state]]
    if short and len(told) > 1:
        return f"{told[0]} of {counts.total()}"
    return ", ".join(told) or "to nobody"
