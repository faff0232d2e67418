"""What the operator may say about a decision, checked before it is sent."""

from __future__ import annotations

import pytest

from echo_core.errors import UsageError
from echo_core.workflow.commands import COMMANDS, command

ID = "5f0c1e52-0000-4000-8000-000000000000"


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("speak", "overrule")])
def test_a_command_is_a_request_to_the_conductor_about_one_decision(name: str) -> None:
    message = command(name, ID)
    assert (message.from_role, message.to_role, message.type) == ("operator", "conductor", "request")
    assert (message.subject, message.decision_id) == (name, ID)


def test_what_the_operator_says_is_a_contribution_to_the_discussion() -> None:
    message = command("speak", ID, text=" Mind the budget ")
    assert message.content["answer"] == "contribution"
    assert (message.content["role"], message.content["source"]) == ("operator", "operator")
    assert message.content["text"] == message.body == "Mind the budget"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("dance", {}, "unknown command 'dance'; known are advance, auto,"),
        ("speak", {}, "nothing to say"),
        ("speak", {"text": "  "}, "nothing to say"),
        ("overrule", {}, "approved or rejected"),
        ("overrule", {"status": "cancelled"}, "approved or rejected"),
    ],
)
def test_a_command_that_means_nothing_is_refused_with_what_it_needs(name: str, content: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        command(name, ID, **content)
