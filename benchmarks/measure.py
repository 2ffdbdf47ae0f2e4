"""One figure of one system, in this process: ``python -m benchmarks.measure`` (see `runner`).

The numbers go to a file, because a system may print what it likes.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.figures import FIGURES, Figure
from benchmarks.outcome import FAILED, MEASURED, MISSING, Outcome
from benchmarks.peers import PEERS, Peer
from benchmarks.scale import WORKERS, Scale, warm_up


def measure(figure: Figure, peer: Peer, scale: Scale) -> Outcome:
    """Measure; whatever goes wrong becomes an outcome."""
    try:
        if figure.is_started:
            peer.load()
            peer.start(WORKERS)
            warm_up(peer)
        return Outcome(MEASURED, figure.run(peer, scale))
    except ImportError as error:
        is_absent = isinstance(error, ModuleNotFoundError)
        return Outcome(MISSING if is_absent else FAILED, reason=str(error))
    except Exception as error:  # noqa: BLE001 a border: any system may fail in any way
        return Outcome(FAILED, reason=f"{type(error).__name__}: {error}")


def main(system: str, figure_name: str, scale_json: str, path: str) -> None:
    """Measure, write the outcome, then stop the system."""
    figure = next(figure for figure in FIGURES if figure.name == figure_name)
    peer = PEERS[system]()
    try:
        outcome = measure(figure, peer, Scale(**json.loads(scale_json)))
        # Written before the stop, and moved in whole: a system that hangs there spoils nothing.
        draft = Path(path + ".draft")
        draft.write_text(json.dumps(asdict(outcome)), encoding="utf-8")
        draft.rename(path)
    finally:
        peer.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
