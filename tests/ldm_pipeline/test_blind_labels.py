"""The page shows pictures and tells nothing of arms; its answers come back whole or are refused."""

import base64
import io
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ldm_pipeline.blind_labels import KEY, PAGE, read_answers, write_page
from ldm_pipeline.study import pair
from ldm_pipeline.study_folder import StudyFolder, open_folder, study_facts

QUESTION, OTHER = 'a "wet", </script> street', "a tree"


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    """Pictures of one color each: red in arm A, blue in arm B, brighter with the seed."""
    return begun(tmp_path / "study", seeds=range(3))


def begun(path: Path, *, seeds) -> StudyFolder:
    study = pair(
        ["secretprompt"], seeds=seeds, change={"negative_prompt": "secretword"}, ask=QUESTION, also=[OTHER]
    )
    made = open_folder(path, study, study_facts(study, device="cpu", dtype="float32"))
    for arm in study.arms:
        for case in study.cases:
            place = made.picture(arm, case)
            place.parent.mkdir(parents=True, exist_ok=True)
            level = 100 + 10 * case.seed
            color = (level, 0, 0) if arm.key == "A" else (0, 0, level)
            picture = Image.new("RGB", (8, 8), color)
            picture.info["secretinfo"] = "secretrecipe"
            picture.save(place)
    return made


def content(page: str) -> dict:
    return json.loads(re.findall(r'<script type="application/json" id="study">(.*?)</script>', page, re.S)[0])


def shown(folder: StudyFolder) -> list[tuple[str, Any]]:
    """Code and color of each picture, in the page's order."""
    pictures = content((folder.path / PAGE).read_text())["pictures"]
    opened = [Image.open(io.BytesIO(base64.b64decode(one["data"].split(",")[1]))) for one in pictures]
    return [(one["code"], picture.getpixel((0, 0))) for one, picture in zip(pictures, opened, strict=True)]


def answered(folder: StudyFolder, *, line="\r\n") -> list[str]:
    """Rows as the page exports them: what is red shows the one thing, what is blue the other."""
    quoted = QUESTION.replace('"', '""')
    rows = []
    for code, (red, _, _) in shown(folder):
        rows += [f'{code},"{quoted}",{"y" if red else "n"}', f"{code},{OTHER},{'n' if red else 'y'}"]
    return rows


def written(tmp_path: Path, rows: list[str], head: str = "picture,question,answer") -> Path:
    (tmp_path / "answers.csv").write_text("\r\n".join([head, *rows]) + "\r\n", encoding="utf-8", newline="")
    return tmp_path / "answers.csv"


def test_the_page_holds_the_pixels_and_no_word_of_arms_or_recipes(folder: StudyFolder):
    page = write_page(folder).read_text()
    assert sorted(color for _, color in shown(folder)) == sorted(
        [(level, 0, 0) for level in (100, 110, 120)] + [(0, 0, level) for level in (100, 110, 120)]
    )
    for telltale in ("secret", '"A"', '"B"', "seed", "arm", "png", str(folder.path)):
        assert telltale not in page
    raw = [base64.b64decode(one["data"].split(",")[1]) for one in content(page)["pictures"]]
    assert not [data for data in raw if b"secret" in data or b"EXIF" in data or b"XMP" in data]


def test_the_page_is_one_file_that_asks_nothing_of_a_network(folder: StudyFolder):
    page = write_page(folder).read_text()
    assert "default-src 'none'" in page and not re.search(r"https?://|src=|@import|fetch\(", page)
    assert page.count("</script>") == 2  # the question's own is escaped
    assert content(page)["questions"] == [QUESTION, OTHER]


def test_pictures_are_shuffled_and_their_codes_mean_nothing(tmp_path: Path):
    many = begun(tmp_path / "many", seeds=range(40))
    write_page(many)
    colors = [color for _, color in shown(many)]
    is_red = [red > 0 for red, _, _ in colors]
    changes = sum(one != other for one, other in pairwise(is_red))
    assert 20 < changes < 60  # 39.5 expected, spread 4.5
    assert sorted(colors) != colors
    assert len({code for code, _ in shown(many)}) == 80


def test_answers_come_back_to_their_arms_in_any_order(folder: StudyFolder, tmp_path: Path):
    write_page(folder)
    answers = read_answers(folder, written(tmp_path, answered(folder)[::-1]))
    assert {key: (list(one.asked), list(one.also[OTHER])) for key, one in answers.items()} == {
        "A": ([True] * 3, [False] * 3),
        "B": ([False] * 3, [True] * 3),
    }
    assert answers["B"].pixels == pytest.approx([200 / 3, 220 / 3, 80.0])


def test_what_spreadsheets_make_of_it_is_read(folder: StudyFolder, tmp_path: Path):
    write_page(folder)
    rows = [f'{code};"{q}";{a}' for code, _ in shown(folder) for q, a in
            ((QUESTION.replace('"', '""'), "Yes"), (OTHER, "no"))]  # fmt: skip
    file = written(tmp_path, rows, head="\ufeffpicture;question;answer")
    assert list(read_answers(folder, file)["B"].asked) == [True] * 3


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda rows: rows[:-1], r"lacks 1 of 12 answers, e\.g\. of picture [0-9a-f]{10}"),
        (lambda rows: [], "lacks 12 of 12"),
        (lambda rows: [*rows, rows[0]], "row 14: picture [0-9a-f]{10} is answered twice"),
        (lambda rows: [*rows, "0123456789,a tree,y"], "row 14: picture '0123456789' is none of this study's"),
        (lambda rows: [rows[1].replace(OTHER, "a dog"), *rows], "row 2: question 'a dog' is not"),
        (lambda rows: [rows[1][:-1] + "maybe", *rows[2:]], "row 2: answer 'maybe' is neither"),
        (lambda rows: [rows[1][:-1], *rows[2:]], "answer '' is neither"),
        (lambda rows: [rows[1] + ",x", *rows[2:]], "row 2: it has not as many entries"),
        (lambda rows: ["onlyone"], "row 2: it has not as many entries"),
        (lambda rows: ['"open'], "cannot be read as CSV"),
    ],
)
def test_missing_double_foreign_and_broken_rows_are_refused(folder, tmp_path: Path, change, complaint: str):
    write_page(folder)
    with pytest.raises(ValueError, match=complaint) as error:
        read_answers(folder, written(tmp_path, change(answered(folder))))
    assert "\n" not in str(error.value)


def test_files_that_are_no_answers_are_refused(folder: StudyFolder, tmp_path: Path):
    write_page(folder)
    with pytest.raises(ValueError, match="picture, question, answer are needed"):
        read_answers(folder, written(tmp_path, [], head="a,b"))
    (tmp_path / "answers.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="cannot be read as CSV"):
        read_answers(folder, tmp_path / "answers.csv")
    with pytest.raises(ValueError, match="is not a file"):
        read_answers(folder, tmp_path / "none.csv")


def test_a_key_that_fits_is_kept_and_one_that_does_not_is_made_anew(folder: StudyFolder, tmp_path: Path):
    write_page(folder)
    kept = (folder.path / KEY).read_bytes()
    write_page(folder)
    assert (folder.path / KEY).read_bytes() == kept
    file = written(tmp_path, answered(folder))
    more = begun(folder.path, seeds=range(4))
    with pytest.raises(ValueError, match="lacks 4 of 16 answers"):
        read_answers(more, file)
    write_page(more)
    with pytest.raises(ValueError, match="is none of this study's"):
        read_answers(more, file)


def test_without_its_key_or_with_anothers_nothing_is_read(folder: StudyFolder, tmp_path: Path):
    with pytest.raises(ValueError, match="run the study with --judge blind first"):
        read_answers(folder, written(tmp_path, []))
    write_page(folder)
    key = json.loads((folder.path / KEY).read_text())
    for damage in ({**key, "study": "0" * 64}, {**key, "schema": "x"}, {**key, "pictures": 3}, []):
        (folder.path / KEY).write_text(json.dumps(damage))
        with pytest.raises(ValueError, match="cannot be read as the study's key"):
            read_answers(folder, written(tmp_path, []))
