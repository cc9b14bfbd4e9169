"""What the commands have in common: arguments that end in one line, and text that steers no terminal.

It knows no command.
"""

import argparse
import re
from typing import NoReturn

EXIT_BAD_INPUT = 2


class OneLineParser(argparse.ArgumentParser):
    """argparse with one-line errors and no abbreviated flags, so that a new flag breaks no old command."""

    def __init__(self, **keywords):
        super().__init__(**keywords, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Ends the program with one line on stderr."""
        self.exit(EXIT_BAD_INPUT, f"{self.prog}: error: {one_line(message)} (see {self.prog} --help)\n")


def one_line(message: object) -> str:
    """A message in one line, with nothing that steers a terminal."""
    return printable(" ".join(str(message).split()))


def printable(text: str) -> str:
    """Escapes what a file's author could steer a terminal with and what UTF-8 cannot hold, but line feeds."""
    unsafe = r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
    return re.sub(unsafe, lambda found: f"\\u{ord(found[0]):04x}", text)
