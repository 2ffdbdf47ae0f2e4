"""``journal``: looks at, and shrinks, a journal that no master uses."""

from __future__ import annotations

import time
from argparse import Namespace
from itertools import islice
from typing import Final

from nbcluster import journal
from nbcluster.cli.flags import Flags, Verb, count
from nbcluster.cli.output import print_json
from nbcluster.core.machine import Machine
from nbcluster.core.records import Forgotten, Record
from nbcluster.master import rebuild

_KEEP: Final = 1_000


def journal_flags(flags: Flags) -> None:
    """Add the flags of ``journal``."""
    flags.add_argument("act", choices=("info", "vacuum"), help="look at it, or shrink it")
    flags.add_argument("path", metavar="PATH", help="the journal")
    flags.flag(
        "--keep",
        dest="keep_tasks",
        type=count,
        default=_KEEP,
        metavar="N",
        help=f"for vacuum: ended tasks that stay, the latest; default: {_KEEP}",
    )
    flags.json()


def run_journal(args: Namespace) -> int:
    """Look at a journal, after shrinking it if that is asked for."""
    try:
        if args.act == "vacuum":
            shrink(args.path, args.keep_tasks)
        found = journal.info(args.path)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no journal {args.path}") from None
    if args.json:
        print_json(found)
    else:
        for name, value in found.items():
            print(f"{name:<10}  {value}")
    return 0


def shrink(path: str, keep: int) -> None:
    """Forget all ended tasks but the latest ``keep``, and give the space back."""
    machine = Machine()
    state = machine.state
    now = time.time()

    def forget() -> list[Record]:
        gone = tuple(islice(state.ended, max(0, len(state.ended) - keep)))
        if not gone:
            return []
        record = Forgotten(gone)
        state.apply(record, now)
        return [record]

    def header() -> journal.Header:
        return rebuild.header_of(machine)

    journal.vacuum(path, rebuild.Replay(machine), forget, state.tasks.get, header, now)


VERBS = {"journal": Verb(journal_flags, run_journal)}
