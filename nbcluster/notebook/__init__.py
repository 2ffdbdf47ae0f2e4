"""The face of nbcluster in a notebook: magics, displays, the live view."""

from __future__ import annotations

from typing import Any


def load_ipython_extension(shell: Any) -> None:
    """Register the magics; called by ``%load_ext nbcluster``. Starts nothing."""
    from nbcluster.notebook.extension import load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Take the magics away; called by ``%unload_ext nbcluster``. Clusters run on."""
    from nbcluster.notebook.extension import unload

    unload(shell)
