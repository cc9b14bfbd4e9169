"""The report counts what was found and names everything that was left out."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.odd_pictures import animation, drawing, encoded
from training.data.picture_report import shown
from training.data.picture_set import OpenedPictures


def test_the_report_counts_what_was_found(folder: Path, open_set: Callable[..., OpenedPictures]):
    (folder / "anim.webp").write_bytes(animation("WEBP"))
    (folder / "near.jpg").write_bytes(encoded(drawing(128, 72, number=1), "JPEG", quality=85))
    (folder / "ink.jpg").write_bytes(encoded(drawing(96, 96, number=33).convert("CMYK"), "JPEG"))
    report = open_set(held_out=0.3).report
    assert report.found == 23 and report.training + report.held_out == 22 and report.held_out > 0
    assert report.sides == {"smallest": (72, 72), "median": (96, 96), "largest": (128, 128)}
    assert sum(one.training for one in report.buckets) == report.training
    assert sum(one.held_out for one in report.buckets) == report.held_out
    assert all(0 <= one.mean_lost <= one.most_lost <= 0.1 and one.enlarged == 0 for one in report.buckets)
    assert report.without_caption == 2 and report.several_captions == 0
    assert report.fields == {"style": 20, "license": 20, "text": 20}
    assert report.licenses == {"MIT": 20, "": 2} and report.transparent == 4
    assert report.notes == {"CMYK": 1} and report.reasons == {"animated": 1}
    assert report.near_duplicates == (("01.png", "near.jpg"),) and report.near_across in (0, 1)


def test_the_text_says_all_of_it(folder: Path, open_set: Callable[..., OpenedPictures]):
    (folder / "anim.webp").write_bytes(animation("WEBP"))
    for number in range(12):
        (folder / f"bad{number:02}.png").write_bytes(b"x")
    text = open_set().report.text()
    for words in (
        "33 found: 20 for training, 0 held out, 13 left out",
        "captions: 0 missing",
        "fields for a template: style (20), license (20), text (20)",
        "licenses: MIT 20",
        "dealt with: with transparent parts 4",
        "left out, animated: 1\n  anim.webp: 3 frames",
        "left out, format: 12\n  bad00.png: this is no picture",
        "  ... and 2 more (--json lists them)",
        "     64 x 64         5         0",
    ):
        assert words in text, words


def test_the_plain_values_go_through_json_and_name_everything(
    folder: Path, open_set: Callable[..., OpenedPictures]
):
    for number in range(12):
        (folder / f"bad{number:02}.png").write_bytes(b"x")
    facts = json.loads(json.dumps(open_set().report.as_json()))
    assert len(facts["left_out"]) == 12 and facts["left_out"][0]["name"] == "bad00.png"
    assert facts["reasons"] == {"format": 12} and facts["buckets"][0]["training"] == 5


def test_names_of_strangers_do_not_steer_the_terminal():
    assert shown("a\x1b[31m\n\u202eb\udcff é") == "a\\x1b[31m\\n\\u202eb\\udcff é"
