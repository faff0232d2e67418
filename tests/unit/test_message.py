"""What may be sent, and the one line that says why something may not."""

from __future__ import annotations

import pytest

from echo_core.bus.message import BODY_BYTES, CONTENT_BYTES, Message
from echo_core.errors import InvalidMessage


def compose(subject: str = "S", body: str | None = "B", **more: object) -> Message:
    return Message.compose("operator", "all", "request", subject, body, **more)  # type: ignore[arg-type]


def test_a_subject_becomes_one_line_and_the_body_stays_as_it_is() -> None:
    message = compose("  Two\n words\t ", " line\n\n two ")
    assert (message.subject, message.body) == ("Two words", " line\n\n two ")
    assert message.content == {"body": " line\n\n two "}


@pytest.mark.parametrize("subject", ["", "   ", "\n\t", "\u2003"])
def test_an_empty_subject_is_refused(subject: str) -> None:
    with pytest.raises(InvalidMessage, match="subject is empty; nothing was sent"):
        compose(subject)


def test_the_limits_are_exact_and_the_body_counts_in_bytes() -> None:
    assert compose("x" * 500).subject == "x" * 500
    with pytest.raises(InvalidMessage, match="501 characters; 500 are possible"):
        compose("x" * 501)
    assert len(compose(body="ü" * (BODY_BYTES // 2)).body) == BODY_BYTES // 2
    with pytest.raises(InvalidMessage, match=r"65,538 bytes long; 65,536 are possible\. Nothing was sent"):
        compose(body="ü" * (BODY_BYTES // 2 + 1))
    with pytest.raises(InvalidMessage, match="the content is"):
        compose(content={"other": "x" * CONTENT_BYTES})


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"body": "a\x00b"}, "NUL character"),
        ({"body": "a\ud800b"}, "half of a character"),
        ({"content": {"x": object()}}, "can't be written as JSON"),
        ({"content": {"x": float("nan")}}, "can't be written as JSON"),
        ({"metadata": {"x": "a\x00"}}, "NUL character"),
    ],
)
def test_what_cannot_be_stored_is_refused_before_it_is_sent(more: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidMessage, match=said):
        compose(**more)


def test_nesting_beyond_all_reason_is_refused() -> None:
    content: dict[str, object] = {}
    for _ in range(100_000):
        content = {"x": content}
    with pytest.raises(InvalidMessage, match="nested too deeply"):
        compose(content=content)


def test_a_type_nobody_knows_and_a_missing_recipient_are_refused() -> None:
    with pytest.raises(InvalidMessage, match="use one of: request, response, notification, escalation"):
        Message.compose("operator", "all", "rant", "S")
    with pytest.raises(InvalidMessage, match="sender and a recipient"):
        Message.compose("operator", "", "request", "S")


def test_what_the_outbox_holds_comes_back_as_the_same_message() -> None:
    message = compose(content={"mode": "human"}, metadata={"k": 1}, in_reply_to=7)
    assert Message.from_json(message.to_json()) == message
