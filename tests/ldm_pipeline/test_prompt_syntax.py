"""A1111's attention syntax is read as A1111 reads it, and weights that cannot be meant are refused."""

import pytest

from ldm_pipeline.prompt_syntax import WeightedText, plain_text, weighted_pieces


def read(prompt):
    return [(piece.text, pytest.approx(piece.weight)) for piece in weighted_pieces(prompt)]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("", [("", 1)]),
        ("a red car", [("a red car", 1)]),
        ("a (red) car", [("a ", 1), ("red", 1.1), (" car", 1)]),
        ("((red)) car", [("red", 1.21), (" car", 1)]),
        ("(red:1.3)", [("red", 1.3)]),
        ("(red : 1.3 )", [("red ", 1.3)]),
        ("(red:-.5)", [("red", -0.5)]),
        ("[red] car", [("red", 1 / 1.1), (" car", 1)]),
        ("[[red]]", [("red", 1 / 1.21)]),
        ("([red])", [("red", 1)]),
        ("(a (b:2) c:1.5)", [("a ", 1.5), ("b", 3), (" c", 1.5)]),
        ("(a [b) c]", [("a ", 1.1), ("b", 1), (" c", 1 / 1.1)]),
    ],
)
def test_brackets_and_numbers_weigh_the_text_in_them(prompt, expected):
    assert read(prompt) == expected


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a (red car", [("a ", 1), ("red car", 1.1)]),
        ("a ((red car", [("a ", 1), ("red car", 1.21)]),
        ("a [red", [("a ", 1), ("red", 1 / 1.1)]),
        ("a (red:1.3", [("a ", 1), ("red:1.3", 1.1)]),
        ("red) car]", [("red) car]", 1)]),
        ("red:1.3) car", [("red:1.3) car", 1)]),
        ("[red:1.3]", [("red:1.3", 1 / 1.1)]),
        ("(at 10:30 sharp)", [("at 10:30 sharp", 1.1)]),
        ("(", [("", 1)]),
        ("()", [("", 1)]),
    ],
)
def test_unbalanced_brackets_act_to_the_end_or_are_text(prompt, expected):
    assert read(prompt) == expected


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (r"a \(red\) car", [("a (red) car", 1)]),
        (r"\[red\] \\ car", [("[red] \\ car", 1)]),
        (r"(red \(b\):1.3)", [("red (b)", 1.3)]),
        (r"(\(:1.5)", [("(", 1.5)]),
        (r"a\b", [("ab", 1)]),
        ("red\\", [("red", 1)]),
        (r"(red\)", [("red)", 1.1)]),
    ],
)
def test_a_backslash_makes_brackets_text(prompt, expected):
    assert read(prompt) == expected


def test_neighbors_of_equal_weight_are_one_piece():
    assert read("(a)(b) c") == [("ab", 1.1), (" c", 1)]
    assert read("a (b:1) c") == [("a b c", 1)]
    assert read("(a:0.5)()[](b:0.5)") == [("ab", 0.5)]


def breaks(prompt):
    return [(piece.text, piece.starts_chunk) for piece in weighted_pieces(prompt)]


def test_the_word_break_starts_a_chunk_in_brackets_too():
    assert breaks("a cat  BREAK a dog") == [("a cat", False), ("a dog", True)]
    assert breaks("a BREAK (b:2) c") == [("a", False), ("b", True), (" c", False)]
    assert weighted_pieces("(a BREAK b:2)") == (
        WeightedText(text="a", weight=2.0),
        WeightedText(text="b", weight=2.0, starts_chunk=True),
    )
    assert breaks("BREAK a BREAK") == [("", False), ("a", True), ("", True)]
    assert breaks("a BREAK BREAK b") == [("a", False), ("", True), ("b", True)]
    assert breaks("BREAKFAST, a_BREAK, break") == [("BREAKFAST, a_BREAK, break", False)]


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("(red:nan)", "with 'nan', which is no number"),
        ("(red:-inf)", "with '-inf', which is no number"),
        ("(red:1.2.3)", "with '1.2.3', which is no number"),
        (f"(red:{'9' * 400})", "which is no number"),
        ("(red:11)", "'red' with 11, brackets multiplied: use weights from -10 to 10"),
        ("(a (red:5):-3)", "'red' with -15"),
        ("(" * 40 + "red", "'red' with 45"),
    ],
)
def test_weights_that_cannot_be_meant_are_refused_in_one_line(prompt, words):
    with pytest.raises(ValueError, match=words) as caught:
        weighted_pieces(prompt)
    assert "\n" not in str(caught.value)


def test_plain_text_is_the_prompt_without_the_syntax():
    assert plain_text(r"a (red:1.3) [car] \(old\) BREAK in paris") == "a red car (old) in paris"
