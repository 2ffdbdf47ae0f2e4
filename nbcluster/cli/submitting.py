"""``submit``: one call of an importable function."""

from __future__ import annotations

import importlib
import json
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, Final

from nbcluster.cli.flags import Flags, Verb
from nbcluster.cli.output import print_json, shown
from nbcluster.cli.reaching import reached
from nbcluster.client.future import Future
from nbcluster.errors import OptionError, RemoteTraceback

#: Seconds after which one who waits is told what for.
_PATIENCE_S: Final = 2.0


def submit_flags(flags: Flags) -> None:
    """Add the flags of ``submit``."""
    flags.usage = (
        "nbcluster submit [[--name] NAME] [--timeout S] [--json] MODULE:FUNCTION [ARG ...]"
    )
    flags.name(is_word=False)
    flags.flag("--timeout", type=float, metavar="S", help="seconds an attempt may run")
    flags.json()
    flags.words(
        "words",
        metavar="WORD",
        help="the cluster's name (default: default [NBCLUSTER_NAME]), then the function, then its "
        "arguments: JSON where they are, else strings. Words that begin with a dash stand after --",
    )


def run_submit(args: Namespace) -> int:
    """Run a function on a cluster; print its value, and what it wrote to standard error."""
    name, function, words = split(args.words, args.name)
    sys.set_int_max_str_digits(0)  # who asks for a long number wants to see it
    fn = resolve(function)
    with reached(name) as cluster:
        chosen = cluster if args.timeout is None else cluster.options(timeout=args.timeout)
        future = chosen.submit(fn, *map(argument, words))
        try:
            error = _outcome(future)
        except KeyboardInterrupt:
            future.cancel()
            raise
        if args.json:
            print_json(_report(future, error))
        else:
            print(future.stdout + future.stderr, end="", file=sys.stderr)
            if error is None:
                print(shown(future.result()))
    if error is None:
        return 0
    if not args.json:
        print(text_of(error), file=sys.stderr)
    return 1


def split(words: Sequence[str], name: str | None = None) -> tuple[str, str, list[str]]:
    """Return cluster, function and arguments; ``name``: the cluster, if it is no word.

    Raises
    ------
    OptionError
        If there is no function.
    """
    rest = list(words)
    if rest and ":" not in rest[0] and not name:
        name = rest.pop(0)
    if not rest or ":" not in rest[0]:
        raise OptionError("name the function as MODULE:FUNCTION, for example math:sqrt")
    return name or os.environ.get("NBCLUSTER_NAME") or "default", rest[0], rest[1:]


def resolve(text: str) -> Callable[..., Any]:
    """Return the function that ``module:function`` names; modules lie in this folder too.

    Raises
    ------
    OptionError
        If there is no such module, or no such function in it.
    """
    module, _, path = text.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = reduce(getattr, path.split("."), importlib.import_module(module))
    except (ImportError, AttributeError, ValueError) as error:
        raise OptionError(f"{text}: {error}") from None
    if not callable(found):
        raise OptionError(f"{text} is a {type(found).__name__} and cannot be called")
    function: Callable[..., Any] = found
    return function


def argument(word: str) -> Any:
    """Return a word as JSON, or as the string it is."""
    try:
        return json.loads(word)
    except ValueError:
        return word


def _outcome(future: Future[Any]) -> BaseException | None:
    """Wait for the end; say once what is waited for, if it does not begin."""
    try:
        return future.exception(_PATIENCE_S)
    except TimeoutError:
        if not future.done() and future.state == "pending":
            print(f"nbcluster: task {future.id} is {future.why()}", file=sys.stderr)
    return future.exception()


def _report(future: Future[Any], error: BaseException | None) -> dict[str, Any]:
    return {
        "id": future.id,
        "state": future.state,
        "value": None if error is not None else future.result(),
        "error": None if error is None else f"{type(error).__name__}: {error}",
        "attempts": future.attempts,
        "duration_s": future.duration,
        "stdout": future.stdout,
        "stderr": future.stderr,
    }


def text_of(error: BaseException) -> str:
    """Return the remote traceback of a task's own exception, else the error in one line."""
    cause = error.__cause__
    if isinstance(cause, RemoteTraceback):
        return cause.text.rstrip()
    return f"{type(error).__name__}: {error}"


VERBS = {"submit": Verb(submit_flags, run_submit)}
