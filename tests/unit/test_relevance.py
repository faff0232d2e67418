import pytest

from echo_core.minds.relevance import phrase_stems, read_text, relevance, stance_for, stem
from echo_core.organisation import Organisation


@pytest.mark.parametrize("text", ["the designated driver", "a redesign", "indesign", "designators"])
def test_a_longer_word_that_only_contains_a_keyword_does_not_match(text: str) -> None:
    assert relevance({"design": 0.9}, text).score == 0


@pytest.mark.parametrize("text", ["Design!", "our designs", "who designed it", "designing", "the design's", "re-design"])
def test_a_keyword_is_found_in_its_inflections(text: str) -> None:
    assert relevance({"design": 0.9}, text).score == 0.9


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("hire", "hiring"),
        ("hired", "hires"),
        ("price", "pricing"),
        ("migrate", "migrations"),
        ("policy", "policies"),
        ("plan", "planned"),
        ("code", "coding"),
        ("implementation", "implement"),
        ("fix", "fixing"),
        ("box", "boxes"),
        ("CTO’s", "cto"),
        ("sell", "selling"),
    ],
)
def test_two_forms_of_a_word_are_one(one: str, other: str) -> None:
    assert stem(one) == stem(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("test", "tester"), ("business", "busy"), ("ban", "bank"), ("us", "use"), ("not", "note")],
)
def test_two_different_words_stay_two(one: str, other: str) -> None:
    assert stem(one) != stem(other)


def test_one_strong_keyword_is_enough_in_a_long_text() -> None:
    found = relevance({"payroll": 0.9, "team": 0.2}, "word " * 5_000 + "payroll " + "word " * 5_000)
    assert (found.score, found.matched) == (0.9, ("payroll",))
    assert stance_for(found.score) == "lead"


def test_many_weak_keywords_add_up_and_never_pass_one() -> None:
    keywords = {name: 0.3 for name in ("apple", "pear", "plum", "fig")}
    scores = [relevance(keywords, " ".join(list(keywords)[:count])).score for count in range(5)]
    assert scores == [0.0, 0.3, 0.51, 0.66, 0.76]
    assert relevance({name: 0.9 for name in keywords}, "apple pear plum fig").score <= 1


def test_a_keyword_said_often_or_listed_in_two_forms_counts_once() -> None:
    assert relevance({"price": 0.6, "pricing": 0.8}, "price price pricing prices").score == 0.8


def test_a_phrase_matches_as_a_whole_and_with_its_hyphen() -> None:
    keywords = {"four-day week": 0.9}
    assert relevance(keywords, "a four day week").score == 0.9
    assert relevance(keywords, "Four-Day weeks?").score == 0.9
    assert relevance(keywords, "four weeks, one day").score == 0


def test_what_was_found_is_quoted_as_it_was_written() -> None:
    text = read_text("Ship WITHOUT\n tests?")
    at = text.find("without test")
    assert at is not None
    assert text.quoted("without test", at) == "“WITHOUT tests”"
    assert text.find("with test") is None


def test_a_place_that_is_ruled_out_is_passed_over() -> None:
    text = read_text("No overtime now. Later, much overtime.")
    at = text.find_unless("overtime", frozenset({"no"}))
    assert at == 5
    assert read_text("no overtime").find_unless("overtime", frozenset({"no"})) is None


@pytest.mark.parametrize("text", ["", " \n", "?!…", "\x00\ud800", "日本語の質問", "'-'-"])
def test_any_text_can_be_read(text: str) -> None:
    assert relevance({"design": 0.9, "": 0.5, "-": 0.5}, text).score == 0


def test_stances_follow_the_score_at_its_borders() -> None:
    assert [stance_for(score) for score in (1.0, 0.8, 0.79, 0.45, 0.44, 0.21, 0.2, 0.0)] == [
        "lead", "lead", "assist", "assist", "observe", "observe", "none", "none",
    ]  # fmt: skip


def test_every_keyword_and_every_concern_of_the_default_organisation_finds_itself(organisation: Organisation) -> None:
    for role in organisation.roles.values():
        for word, weight in role.keywords.items():
            assert relevance({word: weight}, f"About {word}s and more").score in (weight, 0.0)
            assert relevance({word: weight}, f"About {word} and more").score == weight
        for concern in role.concerns:
            assert all(phrase_stems(word) for word in concern.words)
