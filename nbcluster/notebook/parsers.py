"""The parsers of the magics' lines: one for each magic, and one for each verb of ``%cluster``."""

from __future__ import annotations

from argparse import Action, ArgumentTypeError, Namespace
from difflib import get_close_matches
from typing import Final

from IPython.core.error import UsageError
from IPython.core.magic_arguments import MagicArgumentParser
from IPython.utils._process_common import arg_split

from nbcluster.client.tables import STATES


class Parser(MagicArgumentParser):
    """Of one magic's line, or of one verb's. What it cannot understand is a `UsageError`."""

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description)  # type: ignore[no-untyped-call]

    def by_option(self, word: str) -> Action | None:
        """Return what a flag does, or None if there is no such flag."""
        return self._option_string_actions.get(word)

    @property
    def flags(self) -> list[str]:
        """All flags."""
        return list(self._option_string_actions)


def parse(parser: Parser, line: str) -> Namespace:
    """Return what a line says.

    Raises
    ------
    UsageError
        If it says nothing that can be understood.
    """
    try:
        words = arg_split(line)
        _refuse_unknown(parser, words)
        return parser.parse_args(words)
    except (UsageError, ValueError) as error:  # the latter: a quotation mark that is never closed
        raise UsageError(f"%{parser.prog}: {error}") from None


def _refuse_unknown(parser: Parser, words: list[str]) -> None:
    """Name a flag that does not exist: argparse would complain of what stands behind it."""
    for word in words:
        flag = word.partition("=")[0]
        if flag.startswith("--") and not any(known.startswith(flag) for known in parser.flags):
            near = get_close_matches(flag, parser.flags, 1)
            hint = f"; did you mean {near[0]}?" if near else f". Flags: {' '.join(parser.flags)}"
            raise UsageError(f"there is no flag {flag}{hint}")


def count(text: str) -> int:
    """Return a whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def number(text: str) -> int:
    """Return a whole number from 0 on."""
    if not text.isdecimal():
        raise ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def name(text: str) -> str:
    """Return the name of a variable."""
    from keyword import iskeyword

    if not text.isidentifier() or iskeyword(text):
        raise ArgumentTypeError(f"{text!r} is not the name of a variable")
    return text


def names(text: str) -> list[str]:
    """Return names of variables, with commas between them."""
    return [name(part) for part in text.split(",") if part]


def setting(text: str) -> tuple[str, str]:
    """Return the two halves of ``KEY=VALUE``."""
    key, sign, value = text.partition("=")
    if not key or not sign:
        raise ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value


def _task_options(parser: Parser) -> None:
    add = parser.add_argument
    add("--group", metavar="G", help="group of engines that may run it")
    add("--retries", type=number, metavar="K", help="how often it is repeated after an error")
    add("--timeout", type=float, metavar="S", help="seconds that an attempt may run")
    add("--priority", type=int, metavar="P", help="higher goes first")
    _cluster_option(parser)


def _cluster_option(parser: Parser) -> None:
    help_ = "the cluster; default: the one last used"
    parser.add_argument("-c", "--cluster", metavar="NAME", help=help_)


def _remote() -> Parser:
    parser = Parser(
        "%remote",
        description=(
            "Run this cell on an engine, and wait for it.\n\n"
            "What it reads of the notebook goes along; what it prints and shows appears below it."
            "\nOnly what is named comes home: NAME, and the names of -o."
        ),
    )
    add = parser.add_argument
    add("name", nargs="?", type=name, metavar="NAME", help="gets the value of the last expression")
    add("-o", "--out", type=names, action="append", metavar="a,b", help="names that come home")
    add(
        *("-i", "--in"),
        dest="inputs",
        type=names,
        action="append",
        metavar="a,b",
        help="names that go along beside those that are found in the cell",
    )
    add("-n", "--copies", type=count, metavar="K", help="run it K times; NAME gets a list")
    add("--all", action="store_true", help="on every engine; NAME gets a dict, by engine")
    add("--bg", action="store_true", help="do not wait; NAME gets the future")
    _task_options(parser)
    return parser


def _remote_line() -> Parser:
    parser = Parser(
        "remote",
        description="Run one expression on an engine and return its future: f = %remote slow(3)",
    )
    _task_options(parser)
    return parser


def _debug() -> Parser:
    parser = Parser(
        "debug_task",
        description="Run a failed call here, with its own arguments, under the debugger.",
    )
    parser.add_argument("task", metavar="ID", help="id or name of the task")
    _cluster_option(parser)
    return parser


REMOTE: Final = _remote()
REMOTE_LINE: Final = _remote_line()
DEBUG_TASK: Final = _debug()


#: Verb of ``%cluster`` -> its parser.
VERBS: Final[dict[str, Parser]] = {}


def _verb(verb: str, what: str) -> Parser:
    parser = Parser(f"cluster {verb}", description=what)
    VERBS[verb] = parser
    return parser


def _starting() -> None:
    add = _verb("start", "Start a cluster, or attach to the one of that name.").add_argument
    add("-n", "--engines", type=number, metavar="N", help="engine processes; default: 4")
    add("--name", metavar="X", help='name of the cluster; default: "default"')
    add("--group", metavar="G", help="group that the engines serve")
    add("--slots", type=count, metavar="N", help="attempts each engine runs at a time")
    add("--persist", action="store_true", default=None, help="it outlives this kernel")
    add = _verb("attach", "Come back to a cluster that runs.").add_argument
    add("name", nargs="?", metavar="NAME", help="default: the only one that runs, or the default")
    stop = _verb("stop", "Stop the cluster.")
    stop.add_argument("--drain", action="store_true", help="after what runs")
    stop.add_argument("--keep", action="store_true", help="the next start goes on with its tasks")
    add = _verb("scale", "Change the number of engines.").add_argument
    add("n", type=number, metavar="N")
    add("--group", default="default", metavar="G")
    add("--slots", type=count, metavar="N", help="attempts each new engine runs at a time")
    _verb("restart", "Replace all executors by fresh ones.")


def _looking() -> None:
    _verb("status", "Show counts and engines.")
    tasks = _verb("tasks", "Return the table of tasks.")
    tasks.add_argument("--failed", action="store_true", help="only those that failed")
    tasks.add_argument("--state", choices=STATES, help="only those in that state")
    tasks.add_argument("--limit", type=number, metavar="N", help="the first so many")
    _verb("engines", "Return the table of engines.")
    logs = _verb("logs", "Show the last lines of what the cluster's processes log.")
    logs.add_argument("engine", nargs="?", metavar="ENGINE", help="default: the master")
    logs.add_argument("--lines", type=count, default=20, metavar="N")
    _verb("list", "Return the table of clusters.")
    _verb("view", "Show the live view.").add_argument(
        "--mode", choices=("live", "core", "html", "off"), help="how; default: found out"
    )
    _verb("doctor", "Look for what is wrong with this installation.")


def _changing() -> None:
    for verb, what in (
        ("retry", "Run failed tasks again; none named: all."),
        ("cancel", "Cancel tasks; none named: all that are open."),
    ):
        _verb(verb, what).add_argument("tasks", nargs="*", metavar="ID", help="id or name")
    _verb(
        "config", "Set on_interrupt=cancel|detach, view=auto|live|core|html|off, or task options."
    ).add_argument("settings", nargs="*", type=setting, metavar="KEY=VALUE")


_starting()
_looking()
_changing()


def cluster_help() -> str:
    """Return the help of ``%cluster``."""
    lines = ["%cluster VERB ...", ""]
    width = max(map(len, VERBS))
    lines += [f"  {verb:<{width}}  {parser.description}" for verb, parser in VERBS.items()]
    lines += ["", "Flags of a verb: %cluster VERB --help"]
    return "\n".join(lines)
