"""Runs the simulation, or else the stories, on a core with one planted bug.

``python -m tests.simulation.mutant MODULE OLD NEW`` exits with 0 if the bug was found, 1 if it
lives, 2 if ``OLD`` does not stand exactly once in the module.
"""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Final

SEEDS: Final = 60
FOUND, LIVES, NOT_PLANTED = 0, 1, 2


class _Planter(SourceFileLoader):
    """Loads a module from a changed source; nothing is written."""

    old = new = ""

    def get_code(self, fullname: str) -> object:  # type: ignore[override]  # only code comes
        source = Path(self.path).read_text(encoding="utf-8")
        if source.count(self.old) != 1:
            raise SystemExit(NOT_PLANTED)
        return compile(source.replace(self.old, self.new), self.path, "exec")


class _Finder(MetaPathFinder):
    def __init__(self, module: str, old: str, new: str) -> None:
        self._module = module
        _Planter.old, _Planter.new = old, new

    def find_spec(
        self, fullname: str, path: object, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._module:
            return None
        spec = PathFinder.find_spec(fullname, path)  # type: ignore[arg-type]  # as it came
        assert spec is not None
        assert spec.origin is not None
        spec.loader = _Planter(fullname, spec.origin)
        return spec


def is_found_by_simulation() -> bool:
    """Return whether a seed shows the bug."""
    from tests.simulation.acts import live

    for seed in range(SEEDS):
        try:
            live(seed)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong shows the bug
            sys.stdout.write(f"seed {seed}: {type(error).__name__}: {error}\n")
            return True
    return False


def is_found_by_stories() -> bool:
    """Return whether a story fails."""
    import pytest

    folder = Path(__file__).parents[1] / "unit" / "core"
    return pytest.main(["-q", "-x", "-p", "no:cacheprovider", str(folder)]) == 1


def main(module: str, old: str, new: str) -> int:
    """Plant the bug and look for it."""
    sys.dont_write_bytecode = True
    sys.meta_path.insert(0, _Finder(module, old, new))
    return FOUND if is_found_by_simulation() or is_found_by_stories() else LIVES


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
