"""Texts and fields beside a picture are read with care, and a picture's bytes are those that were found."""

import json
import os
from pathlib import Path

import pytest

from training.data import found
from training.data.found import UnusableText, bytes_of, object_in, texts_beside, texts_in, whole_file


def test_each_line_of_a_text_file_is_a_caption():
    texts, fields = texts_beside({".txt": "\ufeffa dog\n\n  a brown dog \r\n".encode()})
    assert texts == ("a dog", "a brown dog") and fields == {"text": "a dog"}


def test_the_text_file_goes_before_the_record_and_both_give_fields():
    record = json.dumps({"caption": "from the record", "style": "flat"}).encode()
    texts, fields = texts_beside({".json": record, ".txt": b"from the text"})
    assert texts == ("from the text",)
    assert fields == {"caption": "from the record", "style": "flat", "text": "from the text"}
    assert texts_beside({".json": record, ".txt": b" \n"})[0] == ("from the record",)
    assert texts_beside({}) == ((), {})


def test_a_record_s_words_numbers_and_lists_are_fields():
    record = {"name": " owl ", "year": 1999, "good": True, "tags": ["a", "b", 3], "no": None, "deep": [{}]}
    assert texts_in(record) == ((), {"name": "owl", "year": "1999", "good": "true", "tags": "a, b, 3"})


def test_a_list_of_captions_is_several_captions():
    texts, fields = texts_in({"prompt": "no", "text": ["an owl", "", "a bird"]})
    assert texts == ("an owl", "a bird") and fields["prompt"] == "no"
    assert texts_in({"text": "", "caption": "an owl"})[0] == ("an owl",)


@pytest.mark.parametrize(
    "sidecars, reason",
    [
        ({".txt": b"\xff\xfe\x00"}, "text: its .txt file is not UTF-8"),
        ({".json": b"{"}, "text: no JSON object"),
        ({".json": b"[1]"}, "text: no JSON object, but a list"),
        ({".json": b"[" * 100_000}, "text: no JSON object"),
        ({".json": b'{"a": ' + b"9" * 5000 + b"}"}, "text: no JSON object"),
        ({".txt": b"a" * (1 << 20) + b"b"}, "text: its .txt file has more than 1 MiB"),
    ],
)
def test_texts_that_cannot_be_read_are_refused_with_a_reason(sidecars: dict[str, bytes], reason: str):
    with pytest.raises(UnusableText) as caught:
        texts_beside(sidecars)
    assert str(caught.value).startswith(reason)


def test_an_object_is_read_from_json():
    assert object_in('{"a": 1}') == {"a": 1}


def test_the_bytes_are_those_of_the_file_as_it_was(tmp_path: Path):
    path = tmp_path / "a.png"
    path.write_bytes(b"abcdef")
    place = whole_file(path)
    assert bytes_of(place) == b"abcdef"
    path.write_bytes(b"abcdefg")
    with pytest.raises(ValueError, match=r"a\.png changed since its pictures were looked at; start again"):
        bytes_of(place)


def test_a_pipe_is_no_picture_and_nobody_waits_for_it(tmp_path: Path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(ValueError, match="special: not a regular file"):
        whole_file(tmp_path / "a.png")


def test_a_file_that_is_too_large_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(found, "LARGEST_FILE_BYTES", 1 << 20)
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(3 << 20)
    with pytest.raises(ValueError, match="huge: 3 MiB, at most 1 are read"):
        whole_file(tmp_path / "a.png")
