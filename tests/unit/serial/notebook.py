"""A notebook and an executor as two real processes, for tests that must cross a border.

``Notebook`` runs cells in the ``__main__`` of a process of its own. There, ``submit(fn, *args)``
sends the call to a second process, which has only an `Unpacker`, and brings the result home.
Each keeps to the bytes that would travel in a cluster.
"""

from __future__ import annotations

import builtins
import os
import pickle
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from struct import Struct
from types import ModuleType, TracebackType
from typing import IO, Any, Final

_ROOT: Final = Path(__file__).parents[3]
_LENGTH: Final = Struct("<Q")


class Peer:
    """A child process that answers one message at a time."""

    def __init__(self, role: str, directory: str, owner: str, cwd: str | None = None) -> None:
        path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH", "")]))
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import {role}\n{role}()", directory, owner],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": ""},
        )

    def ask(self, *message: Any) -> Any:
        """Send a message and return the answer; raise it if it is an exception of the child."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        _send(self._process.stdin, message)
        ok, answer = _receive(self._process.stdout)
        if not ok:
            raise AssertionError(answer)
        return answer

    def close(self) -> None:
        """End the process and wait for it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


class Notebook(Peer):
    """A notebook with one executor behind it."""

    def __init__(self, cwd: str | None = None) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="nb")
        super().__init__("serve_notebook", self._directory.name, "client", cwd)

    def run(self, cell: str) -> None:
        """Run the statements of a cell."""
        self.ask("run", cell)

    def eval(self, expression: str) -> Any:
        """Return the value of an expression, which must be plain data."""
        return self.ask("eval", expression)

    def __enter__(self) -> Notebook:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        self._directory.cleanup()


def _send(file: IO[bytes], message: Any) -> None:
    raw = pickle.dumps(message, 5)
    file.write(_LENGTH.pack(len(raw)) + raw)
    file.flush()


def _receive(file: IO[bytes]) -> Any:
    head = file.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    return pickle.loads(file.read(_LENGTH.unpack(head)[0]))


def _serve(handlers: dict[str, Any]) -> None:
    """Answer messages until the other side closes; prints go to stderr meanwhile."""
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while True:
        try:
            op, *rest = _receive(source)
        except EOFError:
            return
        try:
            answer = True, handlers[op](*rest)
            pickle.dumps(answer)
        except BaseException:  # noqa: BLE001 - everything must reach the test
            answer = False, traceback.format_exc()
        _send(sink, answer)


# --------------------------------------------------------------------------- the executor


def serve_executor() -> None:
    """Be an executor."""
    from nbcluster.serial.blobs import BlobStore
    from nbcluster.serial.unpack import Unpacker

    sys.modules["__main__"] = ModuleType("__main__")
    sys.path.insert(0, os.getcwd())
    unpacker = Unpacker(BlobStore(sys.argv[1], sys.argv[2]))
    known: dict[str, Any] = {}

    def call(digest: str, definition: Any, payload: bytes, blobs: tuple[str, ...]) -> Any:
        if digest not in known:
            known[digest] = unpacker.load_definition(definition)
        try:
            args, kwargs = unpacker.loads_call(payload, blobs)
            value = known[digest](*args, **kwargs)
            if hasattr(value, "__await__"):
                import asyncio

                value = asyncio.run(value)
        except BaseException as error:  # noqa: BLE001 - it travels home
            return unpacker.dumps_exception(error)
        return unpacker.dumps_result(value)

    def push(names: dict[str, Any]) -> None:
        vars(sys.modules["__main__"]).update(names)

    def pull(name: str) -> Any:
        return vars(sys.modules["__main__"]).get(name, "<absent>")

    _serve({"call": call, "push": push, "pull": pull, "loaded": lambda: sorted(sys.modules)})


# --------------------------------------------------------------------------- the notebook


def serve_notebook() -> None:
    """Be a notebook."""
    from nbcluster.serial.blobs import BlobStore
    from nbcluster.serial.pack import Packer

    # As in a kernel: __main__ has only what cells put there.
    main = sys.modules["__main__"]
    for name in ("serve_notebook",):
        vars(main).pop(name, None)
    sys.path.insert(0, os.getcwd())
    directory, owner = sys.argv[1:3]
    packer = Packer(BlobStore(directory, owner))
    executor = Peer("serve_executor", directory, "executor")

    def raw(fn: Any, *args: Any, **kwargs: Any) -> Any:
        definition = packer.define(fn)
        return executor.ask("call", definition.hash, definition, *packer.dumps_call(args, kwargs))

    def submit(fn: Any, *args: Any, **kwargs: Any) -> Any:
        value = packer.loads(*raw(fn, *args, **kwargs))
        if isinstance(value, BaseException):
            raise value
        return value

    def call(definition: Any) -> Any:
        """Run a definition that was made earlier, with no arguments."""
        return packer.loads(
            *executor.ask("call", definition.hash, definition, *packer.dumps_call((), {}))
        )

    helpers = {
        "submit": submit,
        "raw": raw,
        "call": call,
        "packer": packer,
        "push": lambda **names: executor.ask("push", names),
        "pull": lambda name: executor.ask("pull", name),
        "loaded": lambda: executor.ask("loaded"),
    }
    vars(builtins).update(helpers)
    numbers = iter(range(10**9))

    def run(cell: str) -> None:
        code = compile(cell, f"<cell {next(numbers)}>", "exec", dont_inherit=True)
        exec(code, vars(main))

    def evaluate(expression: str) -> Any:
        return eval(compile(expression, "<expression>", "eval", dont_inherit=True), vars(main))

    try:
        _serve({"run": run, "eval": evaluate})
    finally:
        executor.close()
