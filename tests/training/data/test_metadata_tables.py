"""Tables in the convention of image folders: rows that name pictures, and rows that cannot be used."""

from pathlib import Path

import pytest

from training.data.metadata_tables import read_table


def table(tmp_path: Path, name: str, content: str | bytes):
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_table(path)


def test_lines_of_json_name_pictures(tmp_path: Path):
    found = table(
        tmp_path,
        "metadata.jsonl",
        '{"file_name": "a.png", "text": "an owl", "style": "flat"}\n\n'
        '{"file_name": "./sub//b.png", "text": ["x", "y"]}\n',
    )
    assert set(found.rows) == {"a.png", "sub/b.png"} and found.unusable == ()
    assert found.rows["a.png"].texts == ("an owl",) and found.rows["a.png"].number == 1
    assert found.rows["a.png"].fields == {"text": "an owl", "style": "flat"}
    assert found.rows["sub/b.png"].texts == ("x", "y") and found.rows["sub/b.png"].number == 3


def test_a_table_of_commas_names_pictures(tmp_path: Path):
    found = table(
        tmp_path,
        "metadata.csv",
        '\ufefffile_name,text,license\r\na.png,"an owl, flying",MIT\r\nb.png,,\r\n'
        'c.png,"two\nlines",x,beyond\r\n',
    )
    assert found.rows["a.png"].texts == ("an owl, flying",)
    assert found.rows["a.png"].fields == {"text": "an owl, flying", "license": "MIT"}
    assert found.rows["b.png"].texts == () and found.rows["c.png"].fields["license"] == "x"


def test_rows_that_cannot_be_used_are_kept_aside(tmp_path: Path):
    rows = ["{", "[]", '{"text": "x"}', '{"file_name": "../a.png"}', '{"file_name": "/etc/a.png"}']
    rows += ['{"file_name": "a.png"}', '{"file_name": "a.png"}', r'{"file_name": "C:\\a.png"}']
    found = table(tmp_path, "metadata.jsonl", "\n".join(rows))
    assert set(found.rows) == {"a.png"}
    assert [number for number, _ in found.unusable] == [1, 2, 3, 4, 5, 7, 8]
    assert [reason.split(":")[0] for _, reason in found.unusable] == ["text", "text", *["row"] * 5]
    assert found.unusable[3][1] == "row: file_name '../a.png' leads out of the table's folder"
    assert found.unusable[5][1] == "row: names a.png again, as line 6 did"


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("metadata.csv", "name,text\na.png,b\n", "has no column file_name; there are: name, text"),
        ("metadata.csv", "", "has no column file_name; there are: none"),
        ("metadata.jsonl", b"\xff\xfe", "is not UTF-8 text; save it as UTF-8"),
        ("metadata.csv", "file_name\n" + "a" * 200_000, "is no table of comma-separated values"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused(tmp_path: Path, name: str, content: str | bytes, words: str):
    with pytest.raises(ValueError, match=words):
        table(tmp_path, name, content)
