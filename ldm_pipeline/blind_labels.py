"""People as judges: a page that shows a study's pictures in shuffled order, and the answers that it exports.

Knows nothing of statistics. Which picture belongs to which arm stands in the key, never in the page.
"""

import base64
import csv
import io
import json
import random
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ldm_pipeline.folder import one_line
from ldm_pipeline.images import open_picture
from ldm_pipeline.study import Case
from ldm_pipeline.study_folder import StudyFolder
from ldm_pipeline.study_report import ArmAnswers
from ldm_pipeline.study_sheets import pixel_changes

PAGE, KEY = "label.html", "key.json"
SCHEMA = "ldm_study_key/1"
TEMPLATE = Path(__file__).with_name("blind_labels.html")
HEADER = ("picture", "question", "answer")
ANSWERS = {"y": True, "yes": True, "n": False, "no": False}
LARGEST_CSV_BYTES = 64 * 2**20

Key = Mapping[str, tuple[str, int, int]]
"""Picture's code -> (arm, prompt, seed)."""


def write_page(folder: StudyFolder) -> Path:
    """Write `label.html`, one file with all pictures, and `key.json`; give the page to people, keep the key.

    Pictures are written anew from their pixels, so that no recipe goes along. A key that covers these
    pictures is kept, so that answers to an older page stay good.
    """
    key = _key(folder)
    pictures = [{"code": code, "data": _data(folder, place)} for code, place in key.items()]
    content = {
        "study": folder.identity[:12],
        "questions": [folder.study.ask, *folder.study.also],
        "pictures": pictures,
    }
    embedded = json.dumps(content, ensure_ascii=True).replace("<", "\\u003c")  # ends no script element
    return folder.write(PAGE, TEMPLATE.read_text(encoding="utf-8").replace("__STUDY__", embedded))


def read_answers(folder: StudyFolder, file: Path) -> dict[str, ArmAnswers]:
    """Read an exported CSV: one row for each picture and question, in any order.

    ValueError, naming the row, for a file of other columns, an answer that is neither y nor n, a picture or
    question that is not this study's, a pair of them that stands there twice, and one that is missing.
    """
    key = _read_key(folder)
    study, questions = folder.study, (folder.study.ask, *folder.study.also)
    found: dict[tuple[str, str], bool] = {}
    name = one_line(file.name)
    for number, row in _rows(file):
        code, question, answer = (row[column].strip() for column in HEADER)
        if code not in key:
            raise ValueError(f"{name}, row {number}: picture {one_line(code)!r} is none of this study's")
        if question not in questions:
            raise ValueError(f"{name}, row {number}: question {one_line(question)!r} is not this study's")
        if answer.lower() not in ANSWERS:
            raise ValueError(f"{name}, row {number}: answer {one_line(answer)!r} is neither y nor n")
        if (code, question) in found:
            raise ValueError(f"{name}, row {number}: picture {code} is answered twice: keep one row")
        found[code, question] = ANSWERS[answer.lower()]
    code_of = {place: code for code, place in key.items()}
    wanted = {
        (arm.key, case): code_of.get((arm.key, case.prompt, case.seed), "")
        for arm in study.arms
        for case in study.cases
    }
    missing = [(code, q) for code in wanted.values() for q in questions if (code, q) not in found]
    if missing:
        raise ValueError(
            f"{name} lacks {len(missing)} of {len(wanted) * len(questions)} answers, e.g. of picture"
            f" {missing[0][0] or 'one that was drawn later'}: answer all and export again"
        )
    return {
        arm.key: ArmAnswers(
            asked=[found[wanted[arm.key, case], study.ask] for case in study.cases],
            also={q: [found[wanted[arm.key, case], q] for case in study.cases] for q in study.also},
            pixels=pixel_changes(folder, arm),
        )
        for arm in study.arms
    }


def _rows(file: Path) -> list[tuple[int, dict[str, str]]]:
    """Read the rows below the header, with their numbers; some spreadsheets write semicolons for commas."""
    if not file.is_file():
        raise ValueError(f"{one_line(file)} is not a file: give the CSV that the page exported")
    if file.stat().st_size > LARGEST_CSV_BYTES:
        raise ValueError(f"{one_line(file)} has over {LARGEST_CSV_BYTES} bytes: it is no list of answers")
    try:
        text = file.read_text(encoding="utf-8-sig")
        head = text.split("\n", 1)[0]
        reader = csv.DictReader(
            io.StringIO(text, newline=""), delimiter=";" if ";" in head else ",", strict=True
        )
        rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{one_line(file)} cannot be read as CSV: {one_line(error)}") from None
    columns = tuple(reader.fieldnames or ())
    if not set(HEADER) <= set(columns):
        raise ValueError(f"{one_line(file.name)} has the columns {columns}: {', '.join(HEADER)} are needed")
    for number, row in rows:
        if any(not isinstance(row[column], str) for column in HEADER) or None in row:
            raise ValueError(f"{one_line(file.name)}, row {number}: it has not as many entries as the header")
    return rows


def _key(folder: StudyFolder) -> Key:
    """Give the kept key if it covers the study's pictures, else a new one in random order."""
    study = folder.study
    places = [(arm.key, case.prompt, case.seed) for arm in study.arms for case in study.cases]
    if (folder.path / KEY).is_file():
        kept = _read_key(folder)
        if set(kept.values()) == set(places):
            return kept
    random.SystemRandom().shuffle(places)
    codes: set[str] = set()
    while len(codes) < len(places):
        codes.add(secrets.token_hex(5))
    key = dict(zip(codes, places, strict=True))
    plain = {
        "schema": SCHEMA,
        "study": folder.identity,
        "pictures": {code: list(p) for code, p in key.items()},
    }
    folder.write(KEY, json.dumps(plain, indent=1) + "\n")
    return key


def _read_key(folder: StudyFolder) -> Key:
    file = folder.path / KEY
    if not file.is_file():
        raise ValueError(f"{one_line(folder.path)} holds no {KEY}: run the study with --judge blind first")
    try:
        plain: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if plain["schema"] != SCHEMA or plain["study"] != folder.identity:
            raise ValueError("it belongs to another study")
        return {
            code: (arm, int(prompt), int(seed)) for code, (arm, prompt, seed) in plain["pictures"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{one_line(file)} cannot be read as the study's key: {one_line(error)}") from None


def _data(folder: StudyFolder, place: tuple[str, int, int]) -> str:
    """Give a picture as a data address: its pixels, lossless, and nothing else."""
    arm, prompt, seed = place
    file, buffer = folder.picture(folder.study.arm(arm), Case(prompt, seed)), io.BytesIO()
    open_picture(file).save(buffer, "WEBP", lossless=True)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
