"""The process itself: ``python -m nbcluster.engine.executor``. Started by a supervisor only."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_HOME = Path(__file__).resolve().parents[3]


def main(argv: list[str]) -> int:
    """Run one executor with the arguments its supervisor wrote; return the exit code."""
    import faulthandler

    from nbcluster.engine.executor import birth

    options = birth.ExecutorOptions.from_argv(argv)
    if not birth.bind_to(options):
        return 0
    faulthandler.enable(all_threads=False)
    birth.limit(options)
    # On this signal the interpreter writes its stack there, whatever it is busy with.
    faulthandler.register(birth.STACK_SIGNAL, file=birth.stack_file(options), all_threads=False)

    from nbcluster.engine.executor.loop import Executor
    from nbcluster.engine.executor.surroundings import fresh_main

    executor = Executor(options)
    cwd = os.getcwd()
    if cwd not in sys.path:
        sys.path.insert(0, cwd)
    fresh_main()
    return executor.serve()


if __name__ == "__main__":
    # A file of the user's own, as `queue.py`, must not stand in front of what we import. It may
    # stand in front of what user code imports: `main` puts the directory back.
    if sys.path[0] == os.getcwd() != str(_HOME):
        del sys.path[0]
    code = main(sys.argv[1:])
    # Not sys.exit: it would wait for threads that user code left behind.
    os._exit(code)
