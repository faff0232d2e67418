import asyncio

import pytest

from echo_core.minds.factors import amounts_usd, figures, largest_spending
from echo_core.minds.protocol import Contribution, Outcome, Question, Tally, Vote
from echo_core.minds.rules import RuleMind, dissent_of
from echo_core.organisation import Organisation
from echo_core.workflow.consensus import count

RECKLESS = Question(
    subject="Migrate the billing database to PostgreSQL 18?",
    body="In one go on Friday night, without rollback. 4 engineers, 6 weeks.",
)
CAREFUL = Question(
    subject="Migrate the billing database to PostgreSQL 18?",
    body="Step by step over 3 months, with a tested rollback.",
)
LAYOFF = Question(subject="Lay off 10% of the staff?", body="Revenue fell by 20 percent.")
PRICING = Question(subject="Raise the price of the subscription by 15%?", body="We would pilot it with new customers.")
VARIED = [
    RECKLESS,
    CAREFUL,
    LAYOFF,
    PRICING,
    Question(subject="Hire three engineers?", body="$450k a year."),
    Question(subject="Introduce a four-day week?", body="A trial of 3 months."),
    Question(subject="Move the office to the suburbs?", body="The rent falls from $30k to $18k."),
    Question(subject="Let engineers use an AI assistant?", body="Security has not been asked."),
    Question(subject="Water the plants on Mondays?"),
]


def tally(verdict: str, score: float | None = 0.7) -> Tally:
    return Tally.model_validate(
        {"score": score, "threshold": 0.6, "quorum_reached": verdict != "no quorum", "verdict": verdict}
    )


@pytest.fixture
def minds(organisation: Organisation) -> dict[str, RuleMind]:
    return {name: RuleMind(role, organisation) for name, role in organisation.roles.items()}


async def decide(
    minds: dict[str, RuleMind], organisation: Organisation, question: Question
) -> tuple[list[Contribution], list[Vote], Outcome, Tally]:
    stances = {name: (await mind.judge(question)).stance for name, mind in minds.items()}
    taking_part = [name for name, stance in stances.items() if stance in ("lead", "assist")]
    heard: list[Contribution] = []
    for number in (1, 2):
        heard += [await minds[name].contribute(question, number, list(heard)) for name in taking_part]
    votes = [await minds[name].vote(question, heard) for name in taking_part]
    counted = count(votes, stances, organisation)
    return heard, votes, await minds["ceo"].synthesise(question, heard, votes, counted), counted


async def test_a_position_names_the_role_s_own_concerns_about_this_very_question(minds: dict[str, RuleMind]) -> None:
    cto = await minds["cto"].contribute(RECKLESS, 1, [])
    product = await minds["product_manager"].contribute(RECKLESS, 1, [])
    assert "how we go back if it goes wrong half way" in cto.text
    assert "“Migrate”: how we go back if it goes wrong half way" in cto.concerns
    assert "what customers will see change on the day" in product.text
    assert "what customers will see change on the day" not in cto.text
    assert "rehearse the change on a copy, with a timed way back" in cto.proposals
    price = await minds["cto"].contribute(PRICING, 1, [])
    assert not price.concerns


async def test_what_a_role_says_about_the_question_is_quoted_from_it(minds: dict[str, RuleMind]) -> None:
    assert "“without rollback”" in (await minds["cto"].contribute(RECKLESS, 1, [])).text
    assert "“pilot”" in (await minds["ceo"].contribute(PRICING, 1, [])).text
    assert "“Lay off”" in (await minds["chro"].judge(LAYOFF)).reasoning
    budget = Question(subject="What about our budget?", body="It has a budget. The testers test it.")
    for mind in minds.values():
        text = (await mind.vote(budget, [])).rationale + (await mind.contribute(budget, 1, [])).text
        assert "small enough" not in text
        assert "groundwork" not in text


async def test_votes_can_go_against_and_say_why(minds: dict[str, RuleMind]) -> None:
    reckless = await minds["senior_architect"].vote(RECKLESS, [])
    careful = await minds["senior_architect"].vote(CAREFUL, [])
    assert (reckless.vote, careful.vote) == ("reject", "approve")
    assert "where the point of no return lies" in reckless.rationale
    assert (await minds["chro"].vote(LAYOFF, [])).vote == "reject"


async def test_what_is_ruled_out_does_not_count_as_proposed(minds: dict[str, RuleMind]) -> None:
    with_overtime = Question(subject="Finish the product with overtime and layoffs?")
    without = Question(subject="Finish the product without overtime and with no layoffs?")
    assert (await minds["chro"].vote(with_overtime, [])).vote == "reject"
    assert (await minds["chro"].vote(without, [])).vote == "approve"
    no_pilot = Question(subject="Raise the price of the subscription without a pilot?")
    assert "pilot" not in (await minds["ceo"].vote(no_pilot, [])).rationale


async def test_different_questions_end_differently(minds: dict[str, RuleMind], organisation: Organisation) -> None:
    verdicts = {
        question.body: (await decide(minds, organisation, question))[3].verdict for question in (RECKLESS, CAREFUL, PRICING)
    }
    assert list(verdicts.values()) == ["rejected", "approved", "approved"]


async def test_the_same_question_gives_the_same_answers(minds: dict[str, RuleMind], organisation: Organisation) -> None:
    for question in VARIED:
        assert await decide(minds, organisation, question) == await decide(minds, organisation, question)


@pytest.mark.parametrize("question", VARIED, ids=lambda question: question.subject)
async def test_every_text_is_a_sentence_and_every_answer_names_its_source(
    minds: dict[str, RuleMind], organisation: Organisation, question: Question
) -> None:
    heard, votes, outcome, _ = await decide(minds, organisation, question)
    judged = await asyncio.gather(*(mind.judge(question) for mind in minds.values()))
    assert {judgement.source for judgement in judged} == {"keywords"}
    assert {answer.source for answer in (*heard, *votes, outcome)} == {"rules"}
    assert {answer.model for answer in (*heard, *votes, outcome)} == {None}
    for text in [item.text for item in heard] + [vote.rationale for vote in votes] + [outcome.summary, outcome.rationale]:
        assert text[0].isupper() or text[0] == "$"
        assert text.rstrip("”")[-1] in ".?!"
        assert len(text) < 1_500
        for slip in ("..", " .", "  ", "None", "{", " ,", "?."):
            assert slip not in text
    assert all(action.owner in organisation.roles and action.what[0].isupper() for action in outcome.actions)


async def test_a_question_that_touches_nothing_of_a_role_is_left_to_others(minds: dict[str, RuleMind]) -> None:
    plants = VARIED[-1]
    judgement = await minds["cto"].judge(plants)
    contribution = await minds["cto"].contribute(plants, 1, [])
    vote = await minds["cto"].vote(plants, [])
    assert (judgement.stance, judgement.confidence) == ("none", 0.0)
    assert "technology direction" in judgement.reasoning
    assert contribution.position == "conditional"
    assert vote.vote == "abstain"


async def test_an_amount_beyond_a_role_s_authority_is_passed_to_its_superior(minds: dict[str, RuleMind]) -> None:
    question = Question(subject="Hire three engineers?", body="That is $450k a year.")
    vote = await minds["chro"].vote(question, [])
    assert "$450k is more than the $150,000 I may commit, so the CEO has to agree" in vote.rationale
    cheaper = await minds["chro"].vote(Question(subject="Hire three engineers?", body="That is $45k a year."), [])
    assert "may commit" not in cheaper.rationale
    assert vote.confidence < cheaper.confidence
    leader = await minds["ceo"].vote(Question(subject="Buy the competitor?", body="For $7 million."), [])
    assert "the operator has to agree" in leader.rationale
    saving = await minds["operations_head"].vote(Question(subject="Replace the supplier?", body="It saves $9 million."), [])
    assert "may commit" not in saving.rationale


async def test_a_second_round_answers_what_the_others_said(minds: dict[str, RuleMind]) -> None:
    heard = [await minds[name].contribute(RECKLESS, 1, []) for name in ("cto", "senior_architect", "operations_head")]
    reaction = await minds["cto"].contribute(RECKLESS, 2, heard)
    assert "the Senior architect and the Operations head are against it too" in reaction.text.replace("The S", "the S")
    assert any(proposal in reaction.text for item in heard[1:] for proposal in item.proposals)
    assert not reaction.nothing_new
    assert (await minds["cto"].contribute(RECKLESS, 2, [])).nothing_new
    assert (await minds["cto"].contribute(RECKLESS, 3, heard)).nothing_new


async def test_what_the_operator_says_is_heard(minds: dict[str, RuleMind]) -> None:
    question = Question(subject="Migrate the database?", body="")
    word = Contribution(role="operator", round=1, text="Do it without rollback, all at once.", position="conditional")
    alone = await minds["senior_architect"].vote(question, [])
    told = await minds["senior_architect"].vote(question, [word])
    assert (alone.vote, told.vote) == ("approve", "reject")
    assert "the operator" in (await minds["senior_architect"].contribute(question, 2, [word])).text


async def test_the_outcome_keeps_to_the_count_and_quotes_the_dissent(minds: dict[str, RuleMind]) -> None:
    votes = [
        Vote(role="cto", vote="approve", confidence=0.8, rationale="It is time."),
        Vote(role="chro", vote="reject", confidence=0.7, rationale="Not in December."),
        Vote(role="chro", vote="reject", confidence=0.7, rationale="Not in January either."),
        Vote(role="product_manager", vote="abstain", confidence=0.5, rationale="Not mine."),
    ]
    begins = {"approved": "Approved", "rejected": "Rejected", "no consensus": "No consensus", "no quorum": "Too few voted"}
    for verdict, beginning in begins.items():
        outcome = await minds["ceo"].synthesise(PRICING, [], votes, tally(verdict))
        assert outcome.summary.startswith(beginning)
        assert f"“{PRICING.subject}”" in outcome.summary
    against = [("chro", "Not in January either.")]
    assert [(item.role, item.text) for item in dissent_of(votes, tally("approved"))] == against
    assert [(item.role, item.text) for item in dissent_of(votes, tally("no consensus"))] == against
    assert [item.role for item in dissent_of(votes, tally("rejected"))] == ["cto"]


async def test_actions_belong_to_who_offered_them_and_to_roles_only(minds: dict[str, RuleMind]) -> None:
    heard = [
        Contribution(role="cto", text="…", proposals=["rehearse it", "write it down"]),
        Contribution(role="chro", text="…", proposals=["write it down"]),
        Contribution(role="operator", text="…", proposals=["go home"]),
    ]
    outcome = await minds["ceo"].synthesise(PRICING, heard, [], tally("approved"))
    assert [(action.what, action.owner) for action in outcome.actions] == [("Rehearse it", "cto"), ("Write it down", "cto")]
    assert "The CTO begins: rehearse it." in outcome.summary


def test_amounts_are_read_with_their_scale_and_an_income_is_not_a_cost() -> None:
    assert amounts_usd("$250k, then 1.2 million USD and US$ 3,000.50, not 7 euros") == [250_000, 1_200_000, 3_000.5]
    assert largest_spending("It saves us about $2m a year and costs $40k.") == (40_000, "$40k")
    assert largest_spending("No money in it.") == (0.0, "")
    assert figures("4 engineers, 6 weeks, 15% and $9 for 3 days") == ["$9", "4 engineers", "6 weeks"]


@pytest.mark.parametrize("text", ["", "\x00", "\ud800", "[/bold] {0} %s", "?", "x" * 60_000, "\u202e\x1b[2J" * 500])
async def test_any_question_gets_all_four_answers(minds: dict[str, RuleMind], text: str) -> None:
    question = Question.model_construct(subject=text, body=text, mode="collaborative", decision_id=None)
    mind = minds["cto"]
    contribution = await mind.contribute(question, 1, [])
    vote = await mind.vote(question, [contribution])
    assert (await mind.judge(question)).reasoning
    assert (await mind.synthesise(question, [contribution], [vote], tally("no quorum", None))).summary


async def test_a_question_that_asks_which_or_how_is_not_agreed_to(minds: dict[str, RuleMind]) -> None:
    question = Question(subject="Which database would you take?", body="For billing.")
    said = await minds["cto"].contribute(question, 1, [])
    vote = await minds["cto"].vote(question, [said])
    assert "rules can't find one" in said.text
    assert said.position == "conditional"
    assert (vote.vote, vote.source) == ("abstain", "rules")


async def test_what_cannot_be_undone_is_voted_against(minds: dict[str, RuleMind]) -> None:
    question = Question(subject="Delete all customer data older than a year without a backup?")
    votes = [await minds[name].vote(question, []) for name in ("senior_architect", "product_manager")]
    assert [vote.vote for vote in votes] == ["reject", "reject"]
