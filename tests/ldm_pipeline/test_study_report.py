"""Answers that were made up become the tables that they must, and JSON that holds them all."""

import json
import math

import pytest

from ldm_pipeline.statistics import ClusteredPaired, paired
from ldm_pipeline.study import pair, sweep
from ldm_pipeline.study_report import SCHEMA, ArmAnswers, make_report

SEEDS = range(8)
YES, NO = True, False
A = [YES, YES, YES, YES, YES, YES, NO, NO]
B = [NO, NO, NO, NO, NO, YES, NO, NO]
SHAM = [YES, YES, YES, YES, NO, YES, NO, NO]


def read(city: str, weather: str, dog: str, cat: str = "no") -> dict[str, str]:
    return {"city": city, "weather": weather, "dog.present": dog, "dog.color": "red", "cat.present": cat}


@pytest.fixture
def study():
    return pair(
        ["a red dog in paris"], seeds=SEEDS, change={"negative_prompt": "umbrella"}, sham="boat",
        ask="umbrella", also=["tree"],
    )  # fmt: skip


@pytest.fixture
def answers() -> dict[str, ArmAnswers]:
    fine, foggy = read("paris", "rainy", "yes"), read("rome", "foggy", "no", "yes")
    return {
        "A": ArmAnswers(asked=A, also={"tree": [NO] * 8}, read=[fine] * 8, pixels=[0.0] * 8),
        "B": ArmAnswers(
            asked=B, also={"tree": [YES] * 2 + [NO] * 6}, read=[foggy] + [fine] * 7, pixels=[1.0, 3.0] * 4
        ),
        "sham": ArmAnswers(asked=SHAM, also={"tree": [NO] * 8}, read=[fine] * 8, pixels=[2.0] * 8),
    }


NAMED = [{"city": "paris", "dog.present": "yes", "dog.color": "red"}]


def test_every_arm_is_paired_with_the_first_and_b_with_the_sham(study, answers):
    report = make_report(study, answers, named=NAMED)
    assert [(one.arm, one.against) for one in report.comparisons] == [
        ("B", "A"),
        ("sham", "A"),
        ("B", "sham"),
    ]
    assert report.comparison("B").asked == paired(A, B)
    assert report.comparison("B", "sham").asked == paired(SHAM, B)
    assert {key: share.right for key, share in report.shares.items()} == {"A": 6, "B": 1, "sham": 5}
    assert report.comparison("B").also["tree"].change == 0.25


def test_what_the_prompt_names_is_held_against_it_and_what_it_leaves_open_against_the_first_arm(
    study, answers
):
    one = make_report(study, answers, named=NAMED).comparison("B")
    assert list(one.confirmed) == ["city", "named things", "their colors"]
    assert (one.confirmed["city"].only_before, one.confirmed["named things"].only_before) == (1, 1)
    assert one.confirmed["their colors"].only_before == 0
    assert {field: (share.right, share.asked) for field, share in one.kept.items()} == {"weather": (7, 8)}
    assert one.unnamed is not None and one.unnamed.only_after == 1  # the cat
    assert one.pixels is not None and one.pixels.mean == 2.0


def test_a_judge_that_reads_no_scenes_has_no_such_rows(study):
    plain = {
        key: ArmAnswers(asked=asked, also={"tree": A}) for key, asked in (("A", A), ("B", B), ("sham", A))
    }
    one = make_report(study, plain).comparison("B")
    assert (one.confirmed, one.kept, one.unnamed, one.pixels) == ({}, {}, None, None)


def test_needed_pairs_are_those_of_the_seen_change_or_of_a_given_one(study, answers):
    seen = make_report(study, answers, named=NAMED).comparison("B").needed
    assert seen is not None and (seen.change, seen.observed, seen.discordant) == (-0.625, True, 0.625)
    given = make_report(study, answers, named=NAMED, effect=0.2)
    needed = given.comparison("B").needed
    assert needed is not None and (needed.change, needed.observed, needed.discordant) == (0.2, False, 0.625)
    assert needed.pairs > seen.pairs
    none = make_report(study, {**answers, "B": answers["A"]}, named=NAMED).comparison("B")
    assert none.needed is None
    with pytest.raises(ValueError, match=r"effect=20 .* 0\.2 for 20 points"):
        make_report(study, answers, named=NAMED, effect=20)


def test_several_prompts_are_clusters(answers):
    study = pair(["paris", "rome"], seeds=range(4), change={"eta": 1.0}, ask="umbrella")
    both = {key: ArmAnswers(asked=answers[key].asked, also={}) for key in ("A", "B")}
    table = make_report(study, both).comparison("B").asked
    assert isinstance(table, ClusteredPaired) and table.clusters == 2
    assert table.p_value >= 2 / 2**2


def test_named_things_count_in_the_prompts_that_name_them(answers):
    study = pair(["paris", "a dog"], seeds=range(4), change={"eta": 1.0}, ask="umbrella")
    shown = [read("paris", "rainy", "no")] * 8
    both = {key: ArmAnswers(asked=answers[key].asked, also={}, read=shown) for key in ("A", "B")}
    one = make_report(study, both, named=[{"city": "paris"}, {"dog.present": "yes"}]).comparison("B")
    assert one.confirmed["city"].cases == one.confirmed["named things"].cases == 4
    assert {field: share.asked for field, share in one.kept.items()} == {"city": 4, "weather": 8}


def test_the_values_of_a_sweep_are_corrected_for_their_number(answers):
    study = sweep(["paris"], seeds=SEEDS, vary={"eta": (0.0, 0.5, 1.0)}, ask="umbrella")
    three = {
        key: ArmAnswers(asked=asked, also={}) for key, asked in (("x1", A), ("x2", [NO] * 8), ("x3", SHAM))
    }
    report = make_report(study, three)
    assert [one.p_holm for one in report.comparisons] == [2 * 2 / 2**6, 1.0]


def test_json_holds_every_number_and_no_infinity(study, answers):
    never = {
        **answers,
        "A": ArmAnswers(asked=[NO] * 7 + [YES], also={"tree": [NO] * 8}, read=answers["A"].read),
    }
    report = make_report(study, {**never, "B": answers["B"]}, named=NAMED, facts={"date": "2026-11-21"})
    plain = json.loads(report.to_json(), parse_constant=lambda name: pytest.fail(name))
    assert (plain["schema"], plain["date"], len(plain["cases"])) == (SCHEMA, "2026-11-21", 8)
    assert plain["cases"][0]["asked"] == {"A": False, "B": False, "sham": True}
    assert plain["cases"][0]["read"]["B"]["city"] == "rome"
    table = plain["comparisons"][0]["asked"]
    assert (table["only_before"], table["only_after"]) == (1, 1)
    assert math.isfinite(table["p_value"])


def test_answers_that_lack_a_case_are_refused(study, answers):
    with pytest.raises(ValueError, match="arm B has 7 answers for 8 cases"):
        make_report(study, {**answers, "B": ArmAnswers(asked=B[:7], also={"tree": A})}, named=NAMED)
