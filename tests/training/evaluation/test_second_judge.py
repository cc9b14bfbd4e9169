"""Two judges side by side: none differs from itself, and differences are counted; it knows no network."""

import numpy as np
import torch

from ldm_pipeline.judge import Reading
from training.claims import FIELD_INDEX, FIELDS, encode_claims
from training.evaluation.results import QUESTIONS, SUITE_WORDS
from training.evaluation.second_judge import SecondJudge, compare_judges
from training.scenes.claims import Claims, GroupClaim

DOG = GroupClaim(kind="dog", color="red", count=2, side="left")
CLAIMS = [
    Claims(city=city, weather="rainy", time="day", things=(DOG,)) for city in ("paris", "london", "rome")
]
SEEDS = 2


def reading(*changes: tuple[int, str, str]) -> Reading:
    """The truth about two pictures of each prompt, but for (picture, field, class)."""
    codes = torch.from_numpy(np.stack([encode_claims(claim) for claim in CLAIMS for _ in range(SEEDS)]))
    codes = codes.clamp(min=0)
    for picture, field, name in changes:
        codes[picture, FIELD_INDEX[field]] = FIELDS[FIELD_INDEX[field]][1].index(name)
    return Reading(fields=FIELDS, classes=codes, confidence=torch.ones_like(codes, dtype=torch.float32))


def test_a_judge_never_disagrees_with_itself():
    wrong = reading((0, "city", "cairo"), (3, "dog.count", "1"))
    found = compare_judges(wrong, wrong, CLAIMS, seeds_per_prompt=SEEDS)
    assert set(found) == set(QUESTIONS)
    for one in found.values():
        assert one.verdicts.right == one.answers.right == 0 and one.answers.asked == 6
        assert one.first == one.second
    assert (found["all"].first.right, found["city"].first.right, found["count"].first.right) == (4, 5, 5)


def test_what_one_sees_and_the_other_does_not_is_counted_where_it_is_asked():
    first = reading((0, "city", "cairo"), (1, "dog.color", "blue"))
    second = reading((0, "city", "berlin"), (2, "dog.side", "right"), (5, "cat.color", "white"))
    found = compare_judges(first, second, CLAIMS, seeds_per_prompt=SEEDS)
    # Both deny the city, by different names; cats are not asked for.
    assert (found["city"].verdicts.right, found["city"].answers.right) == (0, 1)
    assert (found["color"].verdicts.right, found["color"].answers.right) == (1, 1)
    assert (found["side"].first.right, found["side"].second.right, found["side"].verdicts.right) == (6, 5, 1)
    assert (found["all"].first.right, found["all"].second.right) == (4, 4)
    assert (found["all"].verdicts.right, found["all"].answers.right) == (2, 3)
    assert found["weather"].answers.right == 0


def test_only_what_is_claimed_is_asked():
    claims = [Claims(city="paris"), *CLAIMS[1:]]
    found = compare_judges(reading(), reading(), claims, seeds_per_prompt=SEEDS)
    assert found["city"].first.asked == found["all"].first.asked == 6
    assert found["color"].first.asked == found["weather"].first.asked == 4


def test_pictures_of_one_prompt_are_a_cluster():
    alike = compare_judges(
        reading(), reading((0, "city", "rio"), (1, "city", "rio")), CLAIMS, seeds_per_prompt=SEEDS
    )
    apart = compare_judges(
        reading(), reading((0, "city", "rio"), (3, "city", "rio")), CLAIMS, seeds_per_prompt=SEEDS
    )
    assert alike["city"].verdicts.right == apart["city"].verdicts.right == 2
    assert alike["city"].verdicts.design_effect > apart["city"].verdicts.design_effect


def test_the_page_has_a_row_for_every_question_and_task():
    found = compare_judges(reading(), reading(), CLAIMS, seeds_per_prompt=SEEDS)
    page = SecondJudge(
        questions=found, questions_on_renders=found, tasks={"bound": found["all"]}
    ).to_markdown(QUESTIONS, SUITE_WORDS)
    for words in QUESTIONS.values():
        assert f"\n| {words} | 100.0" in page and f"\n| renders: {words} | 100.0" in page
    assert "\n| task: two colors, each on its own thing | 100.0" in page
