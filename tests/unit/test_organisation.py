"""The organisation file: what it says, and one line for whatever is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from echo_core.errors import OrganisationError, UnknownRole
from echo_core.organisation import Organisation, load_organisation
from echo_core.settings import DEFAULT_ROSTER

FIRM = """
name = "Bakery"
[consensus]
threshold = 0.75
[limits]
discussion = 5
rounds = 3
[roles.owner]
title = "Owner"
leadership = true
authority_limit_usd = 5000
keywords = { bread = 0.9 }
[roles.baker]
reports_to = "owner"
concerns = [{ words = ["night"], asks = "who bakes then", alarm = 0.5 }]
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "firm.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_default_organisation_has_nine_roles_led_by_the_ceo(organisation: Organisation) -> None:
    assert len(organisation.roles) == 9
    assert organisation.leader.role == "ceo"
    assert set(DEFAULT_ROSTER) <= set(organisation.roles)
    assert all(role.responsibilities and role.keywords and role.concerns for role in organisation.roles.values())


def test_a_file_of_one_s_own_is_read_with_sensible_defaults(tmp_path: Path) -> None:
    firm = load_organisation(written(tmp_path, FIRM))
    assert (firm.name, firm.threshold, firm.quorum, firm.limits.discussion, firm.limits.rounds) == (
        "Bakery",
        0.75,
        0.5,
        5,
        3,
    )
    assert firm.leader.role == "owner"
    assert firm.role("baker").title == "Baker"
    assert firm.role("baker").authority_limit_usd is None
    assert firm.role("baker").concerns[0].alarm == 0.5
    with pytest.raises(UnknownRole, match="no role 'ceo' in Bakery; there are baker, owner"):
        firm.role("ceo")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "there are no roles"),
        ("[[[", "not valid TOML"),
        ("[roles.a]\n[roles.b]", "exactly one role reports to nobody and leads; here it is a, b"),
        ("[roles.a]\nreports_to = 'b'\n[roles.b]\nreports_to = 'a'", "here it is nobody"),
        (
            "[roles.l]\n[roles.a]\nreports_to = 'b'\n[roles.b]\nreports_to = 'a'",
            "a -> b -> a: these report to each other in a circle",
        ),
        ("[roles.a]\n[roles.b]\nreports_to = 'x'", "[roles.b]: reports_to names 'x', which is no role"),
        ("[roles.all]", "[roles.all]: 'all' is reserved"),
        ("[roles.operator]", "'operator' is reserved"),
        ("[roles.'Big Boss']", "a role's name is lower_snake_case"),
        ("roles = 3", "roles must be a table"),
        ("[roles]\na = 3", "[roles.a] must be a table"),
        ("[roles.a]\ntitel = 'x'", "[roles.a]: 'titel' is unknown; known are title,"),
        ("[roles.a]\ntitle = 3", "[roles.a]: title must be a text"),
        ("[roles.a]\nleadership = 1", "leadership must be true or false"),
        ("[roles.a]\nkeywords = { x = 2 }", "[roles.a] keywords: x must be a number from 0 to 1"),
        ("[roles.a]\nkeywords = { x = true }", "x must be a number from 0 to 1"),
        ("[roles.a]\nauthority_limit_usd = -1", "authority_limit_usd must be a number from 0"),
        ("[roles.a]\nresponsibilities = [1]", "responsibilities must be a list of texts"),
        ("[roles.a]\nconcerns = [3]", "[roles.a] concerns: each one is a table"),
        ("[roles.a]\nconcerns = [{ words = ['x'] }]", "[roles.a] concerns: each one needs words and asks"),
        ("[consensus]\nthreshold = 0.4\n[roles.a]", "[consensus]: threshold must be a number from 0.5 to 1"),
        ("[consensus]\nthreshold = nan\n[roles.a]", "threshold must be a number"),
        ("[limits]\nrounds = 1\n[roles.a]", "[limits]: rounds must be a number from 2 to 10"),
        ("[limits]\nlunch = 1\n[roles.a]", "[limits]: 'lunch' is unknown"),
    ],
)
def test_whatever_is_wrong_with_a_file_is_one_line_that_names_the_place(tmp_path: Path, text: str, place: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(OrganisationError) as caught:
        load_organisation(path)
    said = str(caught.value)
    assert place in said
    assert str(path) in said
    assert "\n" not in said
    assert caught.value.exit_code == 2


def test_a_file_that_is_missing_a_folder_or_no_text_is_one_line_too(tmp_path: Path) -> None:
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "none.toml", tmp_path, binary):
        with pytest.raises(OrganisationError) as caught:
            load_organisation(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
