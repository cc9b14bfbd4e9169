"""Rows of prompts are texts, weighted sums or several negatives; anything else is told in one line."""

import pytest

from ldm_pipeline.prompt_rows import check_negative, check_prompt, row_text, row_texts, texts, with_texts

SUM = (("a cat", 1.0), ("a dog", 0.5))


def test_one_text_is_one_row_and_lists_become_tuples():
    assert texts("prompt", "rain") == ("rain",)
    assert texts("prompt", ["rain", [["a cat", 1.0], ["a dog", 0.5]]]) == ("rain", SUM)
    assert texts("prompt", None) is None
    with pytest.raises(ValueError, match="prompt is an empty list: give at least one text"):
        texts("prompt", [])


def test_texts_and_sums_are_rows_of_prompts():
    check_prompt("rain")
    check_prompt(SUM)
    check_prompt((("a cat", 2), ("a dog", -1)))
    with pytest.raises(ValueError, match="the weights of a row must have a positive sum"):
        check_prompt((("a cat", 1), ("a dog", -1)))


@pytest.mark.parametrize("row", [7, (), ("a cat", 1.0), ("a cat", "a dog"), (("a cat",),), ((1.0, "a cat"),)])
def test_other_rows_of_prompts_are_refused(row):
    with pytest.raises(ValueError, match=r"a row is a text, or a list of \(text, weight\) pairs$"):
        check_prompt(row)


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), 101, -101.0, "1", True])
def test_absurd_weights_are_refused(weight):
    with pytest.raises(ValueError, match="prompts weighs 'a cat' with .*: use a number of at most 100$"):
        check_prompt((("a cat", weight),))


def test_negative_rows_hold_texts_only():
    check_negative("umbrella")
    check_negative(("umbrella", "dog"))
    for row in (7, (), ("umbrella", 1.0), (("umbrella", 1.0),)):
        with pytest.raises(ValueError, match="a row is a text, or a list of texts$"):
            check_negative(row)


def test_a_row_can_be_written_as_one_text():
    assert row_text("rain") == "rain"
    assert row_text(SUM) == "a cat :1 AND a dog :0.5"
    assert row_text(("umbrella", "dog")) == "umbrella, dog"
    assert row_text(("", "")) == ", "


def test_the_single_texts_of_rows_can_be_listed_and_changed():
    assert row_texts(["rain", SUM, ("umbrella", "dog")]) == ["rain", "a cat", "a dog", "umbrella", "dog"]
    assert with_texts("rain", str.upper) == "RAIN"
    assert with_texts(SUM, str.upper) == (("A CAT", 1.0), ("A DOG", 0.5))
    assert with_texts(("umbrella",), str.upper) == ("UMBRELLA",)
