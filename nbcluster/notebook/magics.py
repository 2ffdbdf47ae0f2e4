"""The magics: ``%cluster``, ``%%remote``, ``%remote``, ``%debug_task``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from IPython.core.error import UsageError
from IPython.core.magic import no_var_expand

from nbcluster.errors import NbclusterError
from nbcluster.notebook import debugging, parsers, remote, verbs
from nbcluster.notebook.parsers import Parser
from nbcluster.notebook.session import Session, say
from nbcluster.notebook.tracebacks import render
from nbcluster.options import unknown_option

_HELP: Final = ("--help", "-h")
_OPTION: Final = re.compile(r"\s*(--?[A-Za-z][\w-]*)(?:=|\s+|$)")
_WORD: Final = re.compile(r"\s*(\"[^\"]*\"|'[^']*'|\S+)")


class ClusterMagics:
    """The magics of one shell."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def cluster(self, line: str) -> Any:
        """``%cluster VERB ...``."""
        verb, _, rest = line.strip().partition(" ")
        if verb in ("", "help", *_HELP):
            say(parsers.cluster_help())
            return None
        parser = parsers.VERBS.get(verb)
        if parser is None:
            raise UsageError(f"%cluster: {unknown_option(verb, parsers.VERBS, 'verb')}")
        if _is_help(parser, rest):
            return None
        args = parsers.parse(parser, rest)
        with _in_one_line(f"%cluster {verb}"):
            return verbs.VERBS[verb](self._session, args)

    def remote_cell(self, line: str, cell: str) -> None:
        """``%%remote ...``."""
        if _is_help(parsers.REMOTE, line):
            return
        args = parsers.parse(parsers.REMOTE, line)
        with _without_our_frames():
            remote.run_cell_magic(self._session, args, cell)

    def remote_line(self, line: str) -> Any:
        """``%remote EXPRESSION``."""
        if _is_help(parsers.REMOTE_LINE, line):
            return None
        options, expression = split_options(line, parsers.REMOTE_LINE)
        args = parsers.parse(parsers.REMOTE_LINE, options)
        if not expression:
            raise UsageError("%remote: which expression? fut = %remote slow(3)")
        with _without_our_frames():
            return remote.run_expression(self._session, args, expression)

    def debug_task(self, line: str) -> None:
        """``%debug_task ID``."""
        if _is_help(parsers.DEBUG_TASK, line):
            return
        args = parsers.parse(parsers.DEBUG_TASK, line)
        with _in_one_line("%debug_task"):
            debugging.debug_task(self._session, args)


def register(shell: Any, session: Session) -> None:
    """Register the magics with a shell."""
    magics = ClusterMagics(session)
    for kind, name, method, text in (
        ("line", "cluster", magics.cluster, parsers.cluster_help()),
        ("cell", "remote", magics.remote_cell, _help_of(parsers.REMOTE)),
        ("line", "remote", magics.remote_line, _help_of(parsers.REMOTE_LINE)),
        ("line", "debug_task", magics.debug_task, _help_of(parsers.DEBUG_TASK)),
    ):
        shell.register_magic_function(_as_magic(name, method, text), kind, name)


def unregister(shell: Any) -> None:
    """Undo `register`."""
    for kind, name in (
        *(("line", "cluster"), ("cell", "remote"), ("line", "remote")),
        ("line", "debug_task"),
    ):
        shell.magics_manager.magics[kind].pop(name, None)


def _as_magic(name: str, method: Callable[..., Any], text: str) -> Callable[..., Any]:
    """Return a function that IPython takes for a magic, with the help that ``?`` shows."""

    def magic(*args: str) -> Any:
        return method(*args)

    magic.__name__ = magic.__qualname__ = name
    magic.__doc__ = text
    no_var_expand(magic)
    return magic


def split_options(line: str, parser: Parser) -> tuple[str, str]:
    """Return the options at the beginning of a line, and the expression after them.

    Not by the rules of a shell, which would take the quotation marks off the expression.
    """
    at = 0
    while match := _OPTION.match(line, at):
        action = parser.by_option(match[1])
        if action is None:
            break
        at = match.end()
        if action.nargs != 0 and (word := _WORD.match(line, at)):
            at = word.end()
    rest = line[at:].strip()
    return line[:at], rest.removeprefix("-- ").strip()


def _is_help(parser: Parser, line: str) -> bool:
    """Show the help if that is what is asked for."""
    is_asked = line.strip() in _HELP
    if is_asked:
        say(_help_of(parser))
    return is_asked


def _help_of(parser: Parser) -> str:
    return parser.format_help().removeprefix("::").strip("\n")


@contextmanager
def _without_our_frames() -> Iterator[None]:
    """Show errors of ours without the frames between the cell and where they were raised."""
    try:
        yield
    except NbclusterError as error:
        if not hasattr(error, "_render_traceback_"):
            render(error, f"{type(error).__name__}: {error}")
        raise


@contextmanager
def _in_one_line(what: str) -> Iterator[None]:
    """Show errors of ours as one line: what is wrong and what to do stands in it."""
    try:
        yield
    except NbclusterError as error:
        text = " ".join(str(error).split())
        raise UsageError(f"{what}: {text}") from None
