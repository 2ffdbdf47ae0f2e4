"""Flags of the command line, each of which can also be set in the environment."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_TRUE: Final = ("1", "true", "yes", "on")
_FALSE: Final = ("0", "false", "no", "off", "")


class Verb(NamedTuple):
    """One verb: adds its flags to a parser, and runs with what was read."""

    flags: Callable[[Flags], None]
    run: Callable[[argparse.Namespace], int]


class Flags(argparse.ArgumentParser):
    """The parser of one verb.

    A flag beats the environment, the environment beats the default. Flags and positional words
    may stand in any order; after ``--`` every word is positional.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            allow_abbrev=False,  # what is an abbreviation today may be ambiguous tomorrow
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **settings,
        )
        self._default_name = ""  #: empty: the verb takes no name of a cluster in this way
        self._last_words = ""  #: the positional that takes what stands after ``--``
        self.flag(
            "-l",
            "--log-level",
            type=level,
            metavar="LEVEL",
            help=f"what is logged to standard error: {', '.join(LEVELS)}",
        )

    def flag(self, *names: str, help: str, **settings: Any) -> None:
        """Add a flag that ``NBCLUSTER_<FLAG>`` sets too.

        Parameters
        ----------
        names, settings
            As `argparse.ArgumentParser.add_argument`. Flags without an argument take ``1`` or
            ``0`` from the environment, those that may be repeated a list with commas.
        help
            What it does; the variable is added.
        """
        action = self.add_argument(*names, help=help, **settings)
        variable = f"NBCLUSTER_{action.dest.upper()}"
        action.help = f"{help} [{variable}]"
        text = os.environ.get(variable)
        if text:
            try:
                action.default = _value(action, text)
            except (ValueError, argparse.ArgumentTypeError) as error:
                self.error(f"{variable}={text}: {error}")

    def name(self, help: str = "the cluster", *, is_word: bool = True) -> None:
        """Add the name of a cluster: as ``--name``, and as a positional word."""
        self._default_name = os.environ.get("NBCLUSTER_NAME") or "default"
        text = f"{help}; default: {self._default_name} [NBCLUSTER_NAME]"
        self.add_argument("--name", metavar="NAME", help=text)
        if is_word:
            self.add_argument("word", nargs="?", metavar="NAME", help="the same")

    def imports(self) -> None:
        """Add ``--import``."""
        self.flag(
            "--import",
            dest="imports",
            action="append",
            default=[],
            metavar="MODULE",
            help="module that each executor imports at its start; may be repeated",
        )

    def json(self) -> None:
        """Add ``--json``."""
        text = 'print JSON, for a program to read; a failure as {"error": {"type", "message"}}'
        self.flag("--json", action="store_true", help=text)

    def words(self, dest: str, **settings: Any) -> None:
        """Add the positional that takes all words that are left, and those after ``--``."""
        self.add_argument(dest, nargs="*", **settings)
        self._last_words = dest

    def read(self, words: Sequence[str]) -> argparse.Namespace:
        """Return what the words say, and set up logging as they do."""
        before, literal = list(words), []
        if "--" in before and self._last_words:
            cut = before.index("--")
            before, literal = before[:cut], before[cut + 1 :]
        found = self.parse_intermixed_args(before)
        if literal:
            getattr(found, self._last_words).extend(literal)
        if self._last_words and not getattr(found, self._last_words):
            self.error("a word is missing")
        if hasattr(found, "word"):
            if found.name and found.word and found.name != found.word:
                self.error(f"two clusters are named: {found.name} and {found.word}")
            found.name = found.name or found.word or self._default_name
        logging.basicConfig(
            level=found.log_level or "WARNING",
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        )
        return found


def level(text: str) -> str:
    """Return the name of a log level in capitals."""
    if text.upper() not in LEVELS:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(LEVELS)}")
    return text.upper()


def count(text: str) -> int:
    """Return a whole number of at least 0."""
    number = int(text) if text.strip().lstrip("+-").isdigit() else -1
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return number


def _value(action: argparse.Action, text: str) -> Any:
    """Return the value that a variable gives to a flag."""
    if action.nargs == 0:
        if text.lower() not in (*_TRUE, *_FALSE):
            raise ValueError("it must be 1 or 0")
        return text.lower() in _TRUE
    if isinstance(action.default, list):
        return [word for word in text.split(",") if word]
    value = action.type(text) if callable(action.type) else text
    if action.choices is not None and value not in action.choices:
        raise ValueError(f"it must be one of {', '.join(map(str, action.choices))}")
    return value
