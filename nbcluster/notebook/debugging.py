"""``%debug_task``: a call that failed on an engine, made here, with the debugger where it fails."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Final

import nbcluster
from nbcluster.cells import Borrowed, Cell, compile_cell, execute, run_cell
from nbcluster.client.cluster import Cluster
from nbcluster.core.model import Definition
from nbcluster.notebook.session import Session, say
from nbcluster.serial.blobs import BlobStore
from nbcluster.serial.unpack import Unpacker

_OURS: Final = os.path.dirname(nbcluster.__file__ or "") + os.sep


def debug_task(session: Session, args: Namespace) -> None:
    """Make the call of a failed task here; where it raises, open the debugger.

    Raises
    ------
    UnknownIdError
        If no such task is known, or it did not fail.
    """
    cluster = session.cluster(args.cluster)
    task = cluster._client.ask("find", task=args.task)["id"]
    with _names_kept(session.names):
        call = _call_of(cluster, task)
        try:
            value = call()
        except Exception as error:  # noqa: BLE001 - what the call raises is what is looked for
            _debug(session, error)
        else:
            say(f"{task} raises nothing here; it returns: {value!r:.500}")


def _call_of(cluster: Cluster, task: str) -> Callable[[], Any]:
    """Return the call of a task as an executor would make it."""
    client = cluster._client
    known = client.ask("call_of", task=task)
    connection = client.link.connection
    assert connection is not None
    unpacker = Unpacker(BlobStore(connection.blobs, client.id, connection.make_blobs))
    definition = Definition(known["fn"], known["name"], bytes(known["blob"]))
    function = unpacker.load_definition(definition)
    args, kwargs = unpacker.loads_call(bytes(known["payload"]), tuple(known["blobs"]))
    if function is run_cell:
        return partial(_run_cell, *args, **kwargs)
    return partial(function, *args, **kwargs)


def _run_cell(cell: Cell, inputs: dict[str, Any]) -> Any:
    code, _ = compile_cell(cell)
    namespace = vars(sys.modules["__main__"])
    borrowed = Borrowed(namespace, {*inputs, *cell.binds})
    namespace.update(inputs)
    try:
        execute(code, namespace)
    finally:
        borrowed.put_back()


@contextmanager
def _names_kept(namespace: dict[str, Any]) -> Iterator[None]:
    """Put the notebook's names back: the call brings what it captured when it was submitted."""
    before = dict(namespace)
    try:
        yield
    finally:
        for name in namespace.keys() - before.keys():
            del namespace[name]
        namespace.update(before)


def _debug(session: Session, error: BaseException) -> None:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None and _is_ours(trace):
        trace = trace.tb_next
    error.__traceback__ = trace
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, trace
    sys.last_exc = error  # type: ignore[attr-defined, unused-ignore]
    say(f"{type(error).__name__}: {error}")
    session.shell.debugger(force=True)


def _is_ours(trace: TracebackType) -> bool:
    return trace.tb_frame.f_code.co_filename.startswith(_OURS)
