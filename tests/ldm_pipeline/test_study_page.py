"""The page tells the numbers of a report and what to be careful about; the numbers are made up."""

from ldm_pipeline.study import pair, sweep
from ldm_pipeline.study_page import asked_table, collateral_table, to_markdown
from ldm_pipeline.study_report import ArmAnswers, make_report

A, B = [True] * 6 + [False] * 2, [True] + [False] * 7


def answered(asked: list[bool]) -> ArmAnswers:
    shown = {"city": "paris", "weather": "rainy", "cat.present": "no"}
    return ArmAnswers(asked=asked, also={}, read=[shown] * 8, pixels=[2.0] * 8)


def made(study, *arms: list[bool], **more):
    answers = {arm.key: answered(asked) for arm, asked in zip(study.arms, arms, strict=True)}
    return make_report(study, answers, named=[{"city": "paris"}] * len(study.prompts), **more)


def columns(table: str) -> set[int]:
    return {line.count("|") for line in table.splitlines()}


def test_a_pair_with_its_sham_arm_is_told_with_intervals_and_needs():
    study = pair(
        ["Paris"], seeds=range(8), change={"negative_prompt": "umbrella"}, sham="boat", ask="umbrella"
    )
    report = made(study, A, B, A, facts={"judge": {"judge": "recogniser", "weights": "e" * 64}})
    page = to_markdown(report)
    assert (
        '# Paired study: "Paris"' in page and "recogniser eeeeeeeeeeee" in page and "8 seeds (0 to 7)" in page
    )
    assert "| A | `no negative prompt` | 75.0 (40.9-92.9) |" in page
    assert '| B | `negative_prompt="umbrella"` | 12.5 (2.2-47.1) | -62.5 (' in page
    assert "| 0.062 | 5 / 0 |" in page
    assert "B against the sham arm, the effect beyond that of any word: -62.5" in page
    assert "city as the prompt says" in page and "weather, which the prompt leaves open: same as in A" in page
    assert "a thing that nobody named: seen | 0.0" in page
    assert "62.5 points with 62 % of the pairs differing" in page
    assert "sham: no change was seen" in page
    assert columns(asked_table(report)) == {7} and columns(collateral_table(report)) == {5}


def test_a_grid_shows_rates_with_x_across():
    vary = {"guidance_scale": (1, 3), "eta": (0.0, 1.0)}
    page = to_markdown(made(sweep(["Paris"], seeds=range(8), vary=vary, ask="umbrella"), A, B, A, B))
    assert "| eta \\ guidance_scale | 1 | 3 |" in page
    assert "| 1.0 | 75.0 (40.9-92.9) | 12.5 (2.2-47.1) |" in page
    assert "p (Holm)" in page and "sham" not in page


def test_prompts_as_clusters_and_repeated_looks_are_said():
    study = pair(["Paris", "Rome"], seeds=range(4), change={"eta": 1.0}, ask="umbrella")
    page = to_markdown(made(study, A, B, facts={"looks": [{}, {}]}))
    assert "# Paired study: 2 prompts" in page and "2 prompts x 4 seeds" in page
    assert "sign-flip p" in page and "prompts are the cases that count" in page
    assert "This is look 2" in page and "There is no sham arm" in page
    assert "prompts of 4 seeds" in page
