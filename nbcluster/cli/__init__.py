"""The command ``nbcluster``: chooses a verb and turns its errors into exit codes.

Each verb lives in a module that is imported only when that verb is called, so that ``--help``
answers at once.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Final

from nbcluster.cli.flags import Flags, Verb
from nbcluster.errors import NbclusterError, OptionError

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130  #: as a shell reports a death by SIGINT
EXIT_CLOSED_PIPE: Final = 141  #: as a shell reports a death by SIGPIPE

_EXITS: Final = (
    "exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted, 141 closed pipe\n"
    "variables:  NBCLUSTER_HOME (where clusters keep their files), and one for each flag"
)

#: verb -> (module with its `VERBS`, what it does)
_VERBS: Final = {
    "start": ("lifecycle", "start a cluster on this machine"),
    "stop": ("lifecycle", "stop a cluster"),
    "list": ("looking", "list your clusters on this machine"),
    "status": ("looking", "show a cluster's tasks by state, and its engines"),
    "tasks": ("looking", "show the table of tasks"),
    "engine": ("joining", "run an engine in this process and join a cluster"),
    "submit": ("submitting", "run a function on a cluster and print its value"),
    "journal": ("journals", "look at, or shrink, a journal that no master uses"),
    "doctor": ("doctoring", "look for what is wrong with this installation"),
    "demo": ("demo", "run the tour notebook and print its final tables"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    argv
        Words after the program's name; default: those of this process.

    Returns
    -------
    int
        0 if it was done, 1 if it failed, 2 if the call itself was wrong, 130 after Ctrl-C, 141 if
        whoever read the output has gone.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by who called us
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - to the end of the process
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        try:
            return _run(words)
        finally:
            sys.stdout.flush()  # here, where a closed pipe is met, and not at exit
    except BrokenPipeError:
        # Whoever read has seen enough. What is still buffered must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_CLOSED_PIPE


def _run(words: list[str]) -> int:
    try:
        return _dispatch(words)
    except SystemExit as end:  # argparse: after --help, and after wrong usage
        return end.code if isinstance(end.code, int) else EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        raise
    except OptionError as error:
        return _told(error, EXIT_USAGE)
    except (NbclusterError, OSError) as error:
        return _told(error, EXIT_FAILED)


def _told(error: Exception, code: int) -> int:
    print(f"nbcluster: {error}", file=sys.stderr)
    return code


def _dispatch(words: list[str]) -> int:
    if words and words[0] in _VERBS:
        name, *rest = words
        verb = verb_of(name)
        flags = Flags(prog=f"nbcluster {name}", description=f"{_VERBS[name][1].capitalize()}.")
        verb.flags(flags)
        args = flags.read(rest)
        try:
            return verb.run(args)
        except (NbclusterError, OSError) as error:
            if getattr(args, "json", False) and not isinstance(error, BrokenPipeError):
                _report(error)
            raise
    return _without_verb(words)


def _report(error: Exception) -> None:
    """Print an error for a program to read."""
    from nbcluster.cli.output import print_json

    print_json({"error": {"type": type(error).__name__, "message": str(error)}})


def verb_of(name: str) -> Verb:
    """Return the verb of that name."""
    module = importlib.import_module(f"nbcluster.cli.{_VERBS[name][0]}")
    verbs: dict[str, Verb] = module.VERBS
    return verbs[name]


def _without_verb(words: list[str]) -> int:
    """Meet ``--help``, ``--version``, and everything that is no verb of ours."""
    from nbcluster._version import __version__

    width = max(map(len, _VERBS))
    lines = [f"  {name:<{width}}  {what}" for name, (_, what) in _VERBS.items()]
    root = Flags(
        prog="nbcluster",
        usage="nbcluster [-h] [--version] [-l LEVEL] VERB ...",
        description="Run Python functions on a supervised cluster of processes.",
        epilog="\n".join(["verbs:", *lines, "", _EXITS, "nbcluster VERB --help tells more."]),
    )
    root.add_argument("--version", action="version", version=f"nbcluster {__version__}")
    root.add_argument("verb", metavar="VERB", choices=list(_VERBS), help="one of the verbs below")
    if not words:
        root.print_help(sys.stderr)
        return EXIT_USAGE
    found, rest = root.parse_known_args(words)
    # Flags stood before the verb: the same call, in the order in which verbs read it.
    level = ["--log-level", found.log_level] if found.log_level else []
    return _dispatch([found.verb, *level, *rest])
