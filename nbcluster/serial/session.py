"""What one act of pickling gathers beside the bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import FunctionType, ModuleType
from typing import Any, Final

from nbcluster.serial.code import global_names
from nbcluster.serial.origin import is_importable
from nbcluster.serial.spaces import space_of, was_shipped

#: What a shell puts into its namespace belongs to that shell.
OF_SHELL: Final = frozenset({"get_ipython", "exit", "quit", "In", "_ih", "_oh", "_dh"})
#: Every module has its own of these.
_NEVER: Final = OF_SHELL | {"__builtins__", "__name__", "__loader__", "__spec__", "__package__"}
_ABSENT: Final = object()

#: space, its dictionary, a name in it
Name = tuple[str, dict[str, Any], str]


@dataclass(slots=True)
class Session:
    """One act of pickling."""

    #: space -> name -> value: the globals that must travel
    names: dict[str, dict[str, Any]] = field(default_factory=dict)
    taken: list[Name] = field(default_factory=list)  #: the same, in the order they were found
    modules: set[str] = field(default_factory=set)  #: importable ones that were referred to
    shallow: bool = False  #: for a fingerprint: a class is its id and version, no more
    root: type | None = None  #: the class that is being written in full, and all it refers to
    homeward: bool = False  #: what was shipped here need not travel back
    chain: bool = False  #: exceptions take their causes along
    unchained: frozenset[int] = frozenset()  #: id() of exceptions that must stay behind
    by_hand: bool = False  #: exceptions are rebuilt without their own ``__reduce__``
    cells: set[int] = field(default_factory=set)  #: id() of cells which their functions fill
    keep: list[Any] = field(default_factory=list)  #: alive as long as the ids above are used

    def take(self, function: FunctionType) -> str:
        """Take along the globals that ``function`` uses, and return the name of its space."""
        namespace = function.__globals__
        space, importable = space_of(namespace)
        if importable:
            self.modules.add(space)
            return "=" + space
        for name in global_names(function.__code__):
            value = namespace.get(name, _ABSENT)
            if value is _ABSENT:
                if self.root is not None:  # it may be defined by the time the class is sent again
                    self.taken.append((space, namespace, name))
            elif not is_shells(name, value):
                self.take_name((space, namespace, name))
        return space

    def take_name(self, entry: Name) -> None:
        """Take one global along."""
        space, namespace, name = entry
        named = self.names.setdefault(space, {})
        if self.homeward and was_shipped(space, name):
            return
        if name not in named and name in namespace:
            named[name] = namespace[name]
            self.taken.append(entry)
            if isinstance(namespace[name], ModuleType):
                self.refer(namespace[name].__name__)

    def refer(self, module: str | None) -> None:
        """Note that an importable module was referred to."""
        if module is not None:
            self.modules.add(module)


def is_shells(name: str, value: Any) -> bool:
    """Return whether a global is the shell's or the module's own, and never sent."""
    if name in _NEVER:
        return True
    # IPython puts a guarded `open` into the notebook; in a task the builtin is meant.
    if name != "open":
        return False
    return getattr(getattr(value, "__wrapped__", None), "__name__", "") == "open"


def captured(function: FunctionType) -> list[Name]:
    """Return the globals that ``function`` would take along."""
    session = Session()
    session.take(function)
    return session.taken


def needed_submodules(function: FunctionType, names: frozenset[str]) -> list[str]:
    """Return loaded submodules that ``function`` reaches as attributes of a package.

    ``import xml.etree.ElementTree`` puts only ``xml`` into the namespace: importing that
    elsewhere would not bring the rest.
    """
    import sys

    found: list[str] = []
    globals_ = function.__globals__
    held = [globals_.get(name) for name in global_names(function.__code__)]
    held += [_content(cell) for cell in function.__closure__ or ()]
    waiting = [m.__name__ for m in held if isinstance(m, ModuleType) and hasattr(m, "__path__")]
    while waiting:
        package = waiting.pop()
        for name in names:
            full = f"{package}.{name}"
            if full in sys.modules and full not in found and is_importable(full):
                found.append(full)
                waiting.append(full)
    return sorted(found)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None
