"""What is printed steers no terminal and fits in a line."""

import pytest

from ldm_pipeline.terminal import EXIT_BAD_INPUT, OneLineParser, one_line, printable


def test_control_characters_and_lone_surrogates_are_escaped():
    assert printable("a\x1b[31mb\u202ec\ud800\n") == "a\\u001b[31mb\\u202ec\\ud800\n"
    assert one_line("  two\n lines\t\x07") == "two lines \\u0007"


def test_bad_arguments_end_in_one_line(capsys: pytest.CaptureFixture[str]):
    parser = OneLineParser(prog="tool")
    parser.add_argument("--number", type=int)
    for words in (["--number", "x\n\x1b"], ["--num", "3"], ["more"]):
        with pytest.raises(SystemExit) as end:
            parser.parse_args(words)
        error = capsys.readouterr().err
        assert end.value.code == EXIT_BAD_INPUT and error.startswith("tool: error: ")
        assert error.count("\n") == 1 and "\x1b" not in error
