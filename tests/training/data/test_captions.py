"""Templates, choices and shuffles make captions of a sample's texts and fields."""

import random

import pytest

from training.data.captions import (
    all_captions,
    check_template,
    drawn_caption,
    template_fields,
    wanted,
    where_words,
)


def test_a_template_names_its_fields_once():
    assert template_fields("{style} emoji of {name}, {style}") == ("style", "name")
    assert template_fields("{{no field}} {Image name}") == ("Image name",)


@pytest.mark.parametrize("template", ["{a.b}", "{a[0]}", "{0}", "{}", "{a!r}", "{a:>99999999}"])
def test_only_plain_fields_are_allowed(template: str):
    with pytest.raises(ValueError, match="is no plain field; write a field's name alone in braces"):
        template_fields(template)


def test_an_open_brace_is_refused():
    with pytest.raises(ValueError, match="template='{a': .*a brace itself twice"):
        template_fields("{a")


def test_an_unknown_field_is_named_with_those_that_exist():
    check_template("{name}", {"name", "style"})
    with pytest.raises(ValueError, match="there is no field 'nam'; there are: name, style"):
        check_template("{nam}", {"style", "name"})
    with pytest.raises(ValueError, match="the samples have no fields"):
        check_template("{nam}", set())


def test_a_sample_is_wanted_if_each_field_asked_for_has_one_of_its_values():
    fields = {"style": "flat", "colors": "red, dark blue"}
    assert wanted(fields, []) and wanted(fields, ["style=flat"]) and wanted(fields, ["colors = dark blue"])
    assert wanted(fields, ["style=mono", "style=flat", "colors=red"])
    assert wanted(fields, ["colors=red, dark blue"])
    for condition in ("style=fla", "colors=blue", "name=flat"):
        assert not wanted(fields, [condition]) and not wanted(fields, ["colors=red", condition, "style=mono"])


@pytest.mark.parametrize("condition", ["style", "=flat", "style="])
def test_what_is_no_condition_is_refused(condition: str):
    with pytest.raises(ValueError, match="is no condition; write FIELD=VALUE"):
        where_words(condition)


def test_captions_are_the_texts_or_the_filled_template():
    fields = {"name": "owl", "style": "flat", "text": "an owl"}
    assert all_captions(["an owl", "a bird"], fields) == ("an owl", "a bird")
    assert all_captions([], fields) == ("",)
    assert all_captions(["an owl", "a bird"], fields, template="{style} {name}") == ("flat owl",)
    both = all_captions(["an owl", "a bird"], fields, template="{style}: {text}")
    assert both == ("flat: an owl", "flat: a bird")


def test_each_caption_is_drawn_about_as_often_as_the_others():
    draws = random.Random(0)
    seen = [drawn_caption(["a", "b", "c"], draws=draws) for _ in range(900)]
    assert all(250 < seen.count(text) < 350 for text in "abc")
    assert drawn_caption(["only"], draws=draws) == "only"


def test_tags_are_shuffled_but_for_the_first_ones():
    caption = "me, red hat,  smiling, outdoors , dog"
    orders = {
        drawn_caption([caption], draws=random.Random(seed), shuffle=True, keep_first=1) for seed in range(200)
    }
    assert all(order.startswith("me, ") for order in orders)
    assert {tuple(sorted(order.split(", "))) for order in orders} == {
        ("dog", "me", "outdoors", "red hat", "smiling")
    }
    assert len(orders) == 24
    assert drawn_caption([caption], draws=random.Random(0)) == caption


def test_the_same_draws_give_the_same_caption():
    captions = ["a, b, c, d", "e, f, g, h"]
    first, second = (
        drawn_caption(captions, draws=random.Random(5), shuffle=True, keep_first=1) for _ in range(2)
    )
    assert first == second
