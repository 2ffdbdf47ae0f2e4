"""Bad input gets a clear error of our own, in the caller, at once; and nothing else suffers."""

from __future__ import annotations

import importlib
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

import nbcluster
from nbcluster import Cluster, Future
from nbcluster.client.future import LARGE_BYTES
from nbcluster.errors import (
    JournalCorruptError,
    JournalError,
    JournalLockedError,
    JournalVersionError,
    OptionTypeError,
    RefusedError,
    RuntimeDirError,
    UnpicklableError,
)
from nbcluster.transport.connection import read_connection
from nbcluster.transport.rundir import cluster_dir
from nbcluster.transport.sockets import Dealer
from nbcluster.wire import codec
from nbcluster.wire import messages as m
from tests.conftest import Up
from tests.helpers import eventually
from tests.integration import calls

END_S: Final = 20.0


@pytest.fixture(autouse=True)
def cluster_goes_on(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test after which the cluster does not work, or has lost something."""
    yield
    if "one" in request.fixturenames:
        one = request.getfixturevalue("one")
        assert one.submit(len, "ab").result(10) == 2
        assert len(one.tasks(state="open")) == 0


# --------------------------------------------------------------------------- what cannot travel


class Unloadable(Exception):
    """Pickles, and cannot be unpickled: its ``__init__`` wants more than is stored."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(a)


class Undumpable(Exception):
    """Raises while it is pickled."""

    def __reduce__(self) -> str:
        raise OSError("no")


class GivenFrame(Exception):
    """Has an argument that cannot be pickled."""

    def __init__(self) -> None:
        super().__init__(sys._getframe())


class HoldsFrame(Exception):
    """Has an attribute that cannot be pickled."""

    def __init__(self) -> None:
        self.held = sys._getframe()


class ExceptionTrap(Exception):
    """Raises while it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return divmod, (1, 0)


class Trap:
    """Raises while it is unpickled."""

    def __init__(self, where: str) -> None:
        self.where = where

    def __setstate__(self, state: dict[str, str]) -> None:
        raise ZeroDivisionError(state["where"])


class Importing:
    """Imports a module while it is unpickled."""

    def __init__(self, module: str) -> None:
        self.module = module

    def __reduce__(self) -> tuple[Any, ...]:
        return importlib.import_module, (self.module,)


def raises(cls: type[Exception], *args: Any) -> None:
    raise cls(*args)


def outcome(cluster: Cluster, future: Future[Any]) -> tuple[str, str, int]:
    """Return state and cause as the table has them, and the attempts."""
    row = cluster.tasks().loc[future.id]
    assert row.state == future.state
    return str(row.state), str(row.cause), future.attempts


def test_an_argument_that_cannot_be_pickled_raises_in_submit_and_is_named(one: Cluster) -> None:
    path = r"args\[0\] -> key 'db' -> sqlite3.Connection"
    with closing(sqlite3.connect(":memory:")) as db, pytest.raises(UnpicklableError, match=path):
        one.submit(len, {"db": db})
    with pytest.raises(TypeError):
        one.submit(len, threading.current_thread())


def test_a_captured_variable_that_cannot_be_pickled_raises_in_submit(one: Cluster) -> None:
    with open(os.devnull, encoding="utf-8") as handle:

        def use() -> str:
            return handle.read()

        with pytest.raises(UnpicklableError, match="closure 'handle'"):
            one.submit(use)


def test_a_result_that_cannot_be_pickled_fails_the_task_and_names_the_type(one: Cluster) -> None:
    future = one.submit(threading.current_thread)

    error = future.exception(END_S)

    assert type(error) is nbcluster.UndecodableError
    assert "result -> threading._MainThread" in str(error)
    assert outcome(one, future) == ("failed", "undecodable", 1)
    assert "result -> threading._MainThread" in one.tasks().error[future.id]


@pytest.mark.parametrize(
    ("cls", "way"),
    [(GivenFrame, "args[0] -> frame"), (HoldsFrame, "attribute 'held' -> frame")],
)
def test_an_exception_that_cannot_be_pickled_fails_the_task_and_names_the_types(
    one: Cluster, cls: type[Exception], way: str
) -> None:
    future = one.submit(raises, cls)

    error = future.exception(END_S)

    assert type(error) is nbcluster.UndecodableError
    assert f"raised {cls.__name__}: " in str(error)
    assert f"exception -> {way}" in str(error)
    assert outcome(one, future) == ("failed", "undecodable", 1)
    assert str(one.tasks().error[future.id]).startswith(f"{cls.__name__}: raised {cls.__name__}: ")


def test_an_exception_whose_reduce_raises_arrives_as_itself(one: Cluster) -> None:
    future = one.submit(raises, Undumpable, "word")

    error = future.exception(END_S)

    assert type(error) is Undumpable
    assert error.args == ("word",)
    assert outcome(one, future) == ("failed", "exception", 1)
    assert one.tasks().error[future.id] == "Undumpable: word"


@pytest.mark.parametrize(("cls", "args"), [(Unloadable, (1, 2)), (ExceptionTrap, (1,))])
def test_an_exception_whose_unpickling_raises_arrives_as_itself(
    one: Cluster, cls: type[Exception], args: tuple[int, ...]
) -> None:
    future = one.submit(raises, cls, *args)

    error = future.exception(END_S)

    assert type(error) is cls
    assert error.args == (1,)
    assert outcome(one, future) == ("failed", "exception", 1)
    assert one.tasks().error[future.id] == f"{cls.__name__}: 1"
    assert f"{cls.__name__}: 1" in future.traceback()


@pytest.mark.parametrize("size", [1, LARGE_BYTES + 1])
def test_a_result_that_cannot_be_unpickled_fails_its_future_and_stays_in_the_tables(
    one: Cluster, size: int
) -> None:
    future = one.submit(Trap, "there" * size)
    eventually(future.done)
    assert future.state == "succeeded"

    with pytest.raises(nbcluster.UndecodableError, match="ZeroDivisionError"):
        future.result(END_S)

    assert isinstance(future.exception(END_S), nbcluster.UndecodableError)
    assert (future.state, future.progress) == ("failed", None)
    assert future.why().startswith("failed (undecodable) after 1 attempt, 0 crashes: ")
    assert "cannot be unpickled here: ZeroDivisionError" in future.why()
    row = one.tasks().loc[future.id]
    assert (row.state, row.cause) == ("succeeded", "")


def test_what_needs_a_module_that_is_not_there_is_an_import_error_too(one: Cluster) -> None:
    there = one.submit(id, Importing("no_such_module"))
    here = one.submit(Importing, "no_such_module")

    for future in (there, here):
        with pytest.raises(ImportError, match="no_such_module") as caught:
            future.result(END_S)
        assert type(caught.value) is nbcluster.MissingModuleError


def test_where_shared_memory_was_emptied_only_what_was_in_it_is_lost(up: Up) -> None:
    cluster, large = up(1), bytes(2 << 20)
    place = cluster_dir(cluster.name).blobs
    executor = cluster.submit(os.getpid).result(END_S)
    keyed = cluster.options(key="k")
    keyed.submit(bytes, len(large)).result(END_S)

    shutil.rmtree(place)

    with pytest.raises(nbcluster.UndecodableError, match="its file was removed; submit it again"):
        keyed.submit(bytes, len(large)).result(END_S)
    assert cluster.submit(len, large).result(END_S) == len(large)
    shutil.rmtree(place)
    assert cluster.submit(bytes, len(large)).result(END_S) == large
    assert place.stat().st_mode & 0o777 == 0o700
    assert cluster.submit(os.getpid).result(END_S) == executor


def test_a_large_argument_that_was_removed_fails_the_task_and_says_so(up: Up, gate: Path) -> None:
    cluster = up(1)
    before = cluster.submit(calls.wait_for, str(gate))
    future = cluster.submit(len, bytes(2 << 20))

    shutil.rmtree(cluster_dir(cluster.name).blobs)
    gate.touch()

    before.result(END_S)
    with pytest.raises(nbcluster.UndecodableError, match="its file was removed"):
        future.result(END_S)


def test_an_argument_that_cannot_be_unpickled_fails_the_task(one: Cluster) -> None:
    future = one.submit(id, Trap("in the executor"))

    error = future.exception(END_S)

    assert isinstance(error, nbcluster.UndecodableError)
    assert "ZeroDivisionError" in str(error)
    assert one.tasks().loc[future.id, "cause"] == "undecodable"


# --------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"retries": -1}, ValueError, "retries= must be at least 0"),
        ({"retries": 1.5}, ValueError, "retries= must be a whole number"),
        ({"timeout": 0}, ValueError, "timeout= must be above 0"),
        ({"timeout": "1"}, TypeError, "timeout= must be a number"),
        ({"priority": "high"}, TypeError, "priority= must be a number"),
        ({"delivery": "exactly_once"}, ValueError, "at_least_once, at_most_once"),
        ({"retrys": 3}, ValueError, "did you mean 'retries'?"),
        ({"prio": 3}, ValueError, "did you mean 'priority'?"),
        ({"retry_on": "OSError"}, TypeError, "exception classes"),
        ({"group": "a/b"}, ValueError, "group 'a/b'"),
        ({"max_crashes": 0}, ValueError, "max_crashes= must be at least 1"),
    ],
    ids=str,
)
def test_an_impossible_option_is_refused_where_it_is_given(
    one: Cluster, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words.replace("?", r"\?")) as caught:
        one.options(**options)
    assert isinstance(caught.value, nbcluster.NbclusterError)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "a/b"}, "'a/b'"),
        ({"name": "../up"}, "'../up'"),
        ({"name": ""}, "''"),
        ({"name": "x" * 200}, "63"),
        ({"engines": -1}, "engines="),
        ({"engines": 10**9}, "engines="),
        ({"slots": "two"}, "slots="),
        ({"durability": "total"}, "durability="),
        ({"engine": 2}, "did you mean 'engines'?"),
        ({"presist": True}, "did you mean 'persist'?"),
    ],
    ids=str,
)
def test_an_impossible_start_is_refused_before_anything_is_made(
    home: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(nbcluster.OptionError, match=words.replace("?", r"\?")):
        nbcluster.start(**options)

    assert list(home.iterdir()) == []


def test_table_and_map_refuse_impossible_arguments(one: Cluster) -> None:
    with pytest.raises(nbcluster.OptionError, match="no state 'finished'"):
        one.tasks(state="finished")
    with pytest.raises(nbcluster.OptionError, match="chunksize="):
        one.map(len, ["a"], chunksize=0)
    with pytest.raises(OptionTypeError, match="n="):
        one.scale("two")  # type: ignore[arg-type]
    with pytest.raises(nbcluster.OptionError, match="submit each with a key of its own"):
        one.options(key="k").map(len, ["a"])
    with pytest.raises(nbcluster.OptionError, match=r"run\(\) .* key='k'"):
        one.options(key="k").run(len, "a")


# --------------------------------------------------------------------------- names and ids


def test_who_does_not_wait_for_a_group_without_engines_is_told_so(one: Cluster) -> None:
    future = one.options(group="nobody", wait=False).submit(len, "a")

    error = future.exception(END_S)

    assert isinstance(error, nbcluster.NoEngineError)
    assert error.group == "nobody"
    assert "scale(n, group='nobody')" in str(error)


def test_an_unknown_id_is_a_lookup_error_that_names_it(one: Cluster) -> None:
    for ask in (one.future, one.drain, one.redrive):
        with pytest.raises(nbcluster.UnknownIdError, match="'no-such-thing'"):
            ask("no-such-thing")
    with pytest.raises(LookupError):
        one.options(after=["no-such-thing"]).submit(len, "a").result(END_S)
    with pytest.raises(LookupError):
        one.options(engine="no-such-thing").submit(len, "a").result(END_S)
    with pytest.raises(LookupError, match="'no-such-thing'"):
        one.cancel("no-such-thing")
    with pytest.raises(LookupError):
        one.attempts("no-such-thing")


def test_to_cancel_what_has_ended_is_no_error_also_beside_what_is_open(one: Cluster) -> None:
    ended = one.submit(len, "a")
    ended.result(END_S)
    waiting = one.options(group="nobody").submit(len, "a")

    assert one.cancel(ended) == one.cancel(ended.id) == one.cancel([ended.id, ended]) == 0
    with pytest.raises(nbcluster.UnknownIdError):
        one.cancel([waiting.id, "no-such-thing"])
    assert waiting.cancelled()
    assert ended.state == "succeeded"


@pytest.mark.parametrize(
    ("method", "args", "options", "builtin"),
    [
        ("submit", (5,), {}, TypeError),
        ("submit", ("pow", 2), {}, TypeError),
        ("map", (5, [1]), {}, TypeError),
        ("map", (pow,), {}, TypeError),
        ("map", (abs, [1]), {"timeout": "a"}, TypeError),
        ("map", (abs, [1]), {"timeout": -1}, ValueError),
        ("map", (abs, [1]), {"chunksize": "x"}, TypeError),
        ("remote", (5,), {}, TypeError),
        ("cancel", (5,), {}, TypeError),
        ("cancel", (None,), {}, TypeError),
        ("cancel", ([5],), {}, TypeError),
        ("retry", (5,), {}, TypeError),
        ("redrive", (None,), {}, TypeError),
        ("retry", ("zz",), {}, LookupError),
        ("redrive", ("zz",), {}, LookupError),
        ("future", (5,), {}, TypeError),
        ("attempts", (5,), {}, TypeError),
        ("drain", (5,), {}, TypeError),
        ("drain", ("zz",), {"timeout": "a"}, TypeError),
        ("restart", ("a",), {}, TypeError),
        ("restart", (-1,), {}, ValueError),
        ("scale", (-1,), {}, ValueError),
        ("scale", (1,), {"slots": "a"}, TypeError),
        ("scale", (10**9,), {}, ValueError),
        ("scale", (1,), {"slots": 10**9}, ValueError),
        ("set_slots", (10**9,), {}, ValueError),
        ("scale", (1,), {"group": 5}, TypeError),
        ("set_slots", (1,), {"group": 5}, TypeError),
        ("set_slots", (1,), {"engine": 5}, TypeError),
        ("wait_for_engines", ("a",), {}, TypeError),
        ("wait_for_engines", (1, "a"), {}, TypeError),
        ("wait_for_engines", (1,), {"group": 5}, TypeError),
        ("push", ({"a": 1},), {"timeout": "a"}, TypeError),
        ("push", ({"class": 1},), {}, ValueError),
        ("push", ({5: 1},), {}, ValueError),
        ("pull", (5,), {}, TypeError),
        ("tasks", (), {"state": ["failed"]}, TypeError),
        ("tasks", (), {"limit": -1}, ValueError),
        ("stop", (), {"mode": "dran"}, ValueError),
    ],
    ids=str,
)
def test_an_impossible_argument_is_an_error_of_ours_and_the_builtin(
    one: Cluster,
    method: str,
    args: tuple[Any, ...],
    options: dict[str, Any],
    builtin: type[Exception],
) -> None:
    with pytest.raises(builtin) as caught:
        getattr(one, method)(*args, **options)

    assert isinstance(caught.value, nbcluster.NbclusterError)


def test_the_nearest_name_is_told(one: Cluster) -> None:
    with pytest.raises(nbcluster.OptionError, match=r"no state 'runing'; did you mean 'running'\?"):
        one.tasks(state="runing")
    with pytest.raises(nbcluster.OptionError, match=r"no mode 'drian'; did you mean 'drain'\?"):
        one.stop(mode="drian")


def test_the_time_to_wait_for_a_result_is_a_number(one: Cluster) -> None:
    future = one.options(group="nobody").submit(len, "a")

    with pytest.raises(OptionTypeError, match="timeout="):
        future.result("a")  # type: ignore[arg-type]
    with pytest.raises(TimeoutError, match="within 0 s"):
        future.result(-1)
    assert future.cancel()


def test_submit_after_close_is_refused_and_the_cluster_lives(one: Cluster) -> None:
    second = nbcluster.connect(one.name)
    second.close()

    with pytest.raises(nbcluster.ClosedError):
        second.submit(len, "a")
    with pytest.raises(RuntimeError):
        second.stats()


def test_what_was_open_at_a_close_says_so(up: Up) -> None:
    cluster = up(0)
    second = nbcluster.connect(cluster.name)
    future = second.submit(len, "a")
    second.stats()

    second.close()

    assert isinstance(future.exception(END_S), nbcluster.ClosedError)


# --------------------------------------------------------------------------- start


def test_a_second_start_attaches_and_says_so(
    one: Cluster, capfd: pytest.CaptureFixture[str]
) -> None:
    second = nbcluster.start(engines=5, name=one.name)
    try:
        said = capfd.readouterr().err
        assert f"'{one.name}' is running already: attached" in said
        assert "it has 1 engine, 5 were asked for: cluster.scale(5)" in said
        assert second.stats()["master_pid"] == one.stats()["master_pid"]
        assert len(second.engines()) == 1
    finally:
        second.shutdown()

    assert one.stats()["engines"] == 1  # the second was not the owner


def refused_start(error: type[Exception], **options: Any) -> str:
    with pytest.raises(error) as caught:
        nbcluster.start(0, name=f"bad-{os.getpid()}", **options)
    return str(caught.value)


def test_a_file_that_is_no_journal_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("dear diary " * 1000)

    message = refused_start(JournalCorruptError, journal=path)

    assert "notes.txt" in message
    assert path.read_text() == "dear diary " * 1000


def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE friends (name)")
    db.close()

    assert "other.db" in refused_start(JournalError, journal=path)


def test_a_damaged_journal_is_refused(up: Up, tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    up(0, journal=path).stop()
    data = bytearray(path.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    path.write_bytes(data)

    assert "journal.db" in refused_start(JournalCorruptError, journal=path)


def test_a_journal_of_a_newer_format_is_refused(up: Up, tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    up(0, journal=path).stop()
    with sqlite3.connect(path) as db:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        db.execute(f"PRAGMA user_version = {version + 1}")
    db.close()

    assert str(version + 1) in refused_start(JournalVersionError, journal=path)


START_AND_TELL: Final = """
import sys, nbcluster
try:
    nbcluster.start(0, name="readonly", journal=sys.argv[1] + "/journal.db")
except nbcluster.JournalReadOnlyError as error:
    print("refused:", error)
"""


def test_a_journal_on_a_read_only_disk_is_refused(home: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", START_AND_TELL, str(tmp_path)]
    if os.geteuid() == 0:  # may write into every folder, but not on every disk
        mount = 'mount -t tmpfs -o ro none "$0" && exec "$@"'
        command = ["unshare", "-m", "sh", "-c", mount, str(tmp_path), *command]
    else:
        tmp_path.chmod(0o500)

    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)

    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip("root can write everywhere on this machine")
    assert "refused:" in done.stdout, done.stderr
    assert "journal.db" in done.stdout


def test_a_journal_in_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "not" / "there" / "journal.db"

    assert "journal.db" in refused_start(JournalError, journal=path)


def test_a_journal_that_another_master_holds_is_refused(up: Up, tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    first = up(0, journal=path)

    refused_start(JournalLockedError, journal=path)

    assert first.stats()["epoch"] == 1


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o777])
def test_a_directory_that_others_may_enter_is_refused(home: Path, mode: int) -> None:
    where = cluster_dir("open")
    where.create()
    where.path.chmod(mode)

    with pytest.raises(RuntimeDirError, match=str(where.path)):
        nbcluster.start(0, name="open")

    assert not where.connection_file.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_somebody_else_is_refused(home: Path) -> None:
    where = cluster_dir("foreign")
    where.create()
    os.chown(where.path, 12345, -1)

    with pytest.raises(RuntimeDirError, match="12345"):
        nbcluster.start(0, name="foreign")


def test_the_files_of_a_cluster_are_its_users_alone(one: Cluster) -> None:
    where = cluster_dir(one.name)
    socket = Path(read_connection(where.connection_file).address.removeprefix("ipc://"))

    assert stat.S_IMODE(where.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(where.connection_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700


def test_a_start_that_failed_leaves_no_process_and_can_be_repeated(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("dear diary")
    name = f"again-{os.getpid()}"

    with pytest.raises(JournalError):
        nbcluster.start(1, name=name, journal=path)

    with nbcluster.start(1, name=name) as cluster:
        assert cluster.submit(len, "ab").result(END_S) == 2


# --------------------------------------------------------------------------- greetings


class Stranger:
    """A peer that says what it likes."""

    def __init__(self, cluster: Cluster) -> None:
        self.connection = read_connection(cluster_dir(cluster.name).connection_file)
        self._dealer = Dealer(self.connection.address)

    def say(self, frame: bytes) -> None:
        self._dealer.send(frame)

    def ask(self, message: Any) -> Any:
        """Send a greeting and return what comes back."""
        self.say(codec.encode(message))
        return codec.to_client(eventually(self._dealer.receive) or b"")

    def heard(self) -> list[Any]:
        """Return all that came back."""
        return [codec.to_client(frame) for frame in iter(self._dealer.receive, None)]

    def close(self) -> None:
        self._dealer.close()


@pytest.fixture
def stranger(one: Cluster) -> Iterator[Stranger]:
    """Return a peer of its own making."""
    peer = Stranger(one)
    yield peer
    peer.close()


def hello(key: str, *, python: str, protocol: int = m.PROTOCOL) -> m.EngineHello:
    return m.EngineHello(
        key, "stranger", "9.9", protocol, python, os.getpid(), "here", ("default",), 1
    )


def test_an_engine_of_another_python_is_refused_with_both_versions(
    one: Cluster, stranger: Stranger
) -> None:
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"

    answer = stranger.ask(hello(stranger.connection.key, python="3.99"))

    assert isinstance(answer, m.Refusal)
    assert "3.99" in answer.reason
    assert ours in answer.reason
    assert "stranger" not in one.engines().index


def test_a_client_of_another_python_is_refused_with_both_versions(stranger: Stranger) -> None:
    key, host = stranger.connection.key, "here"

    answer = stranger.ask(m.ClientHello(key, "c", "9.9", m.PROTOCOL, "3.99", 1, host))

    assert isinstance(answer, m.Refusal)
    assert "3.99" in answer.reason


def test_a_peer_of_another_protocol_or_with_another_key_is_refused(stranger: Stranger) -> None:
    key, python = stranger.connection.key, stranger.connection.python

    newer = stranger.ask(hello(key, python=python, protocol=m.PROTOCOL + 1))
    forged = stranger.ask(hello("x" * len(key), python=python))

    assert isinstance(newer, m.Refusal)
    assert "install the same version" in newer.reason
    assert isinstance(forged, m.Refusal)
    assert "key" in forged.reason


def test_a_client_that_is_refused_raises(one: Cluster, tmp_path: Path) -> None:
    where = cluster_dir(one.name)
    forged = tmp_path / "connection.json"
    known = where.connection_file.read_text()
    forged.write_text(known.replace(stranger_key(known), "forged"))
    forged.chmod(0o600)

    with pytest.raises(RefusedError, match="key"):
        nbcluster.connect(forged)


def stranger_key(text: str) -> str:
    return text.partition('"key": "')[2].partition('"')[0]


def test_garbage_is_dropped_and_its_sender_not_listened_to_any_more(
    one: Cluster, stranger: Stranger
) -> None:
    for number in range(20):
        stranger.say(bytes([number]) * 100)
    stranger.say(codec.encode(hello(stranger.connection.key, python=stranger.connection.python)))

    assert one.submit(len, "ab").result(END_S) == 2  # after the garbage was read
    assert [a for a in stranger.heard() if isinstance(a, m.Welcome)] == []
    assert "stranger" not in one.engines().index


def test_nothing_but_a_greeting_is_taken_from_a_stranger(one: Cluster, stranger: Stranger) -> None:
    before = one.stats()["succeeded"]

    stranger.say(codec.encode(m.Ask(1, "stop", {"mode": "now"})))
    stranger.say(codec.encode(m.Finished(1, [])))

    assert one.submit(len, "ab").result(END_S) == 2
    assert one.stats()["succeeded"] == before + 1


def test_a_client_without_a_cluster_is_told_how_to_start_one() -> None:
    code = "import nbcluster; nbcluster.connect('nobody')"

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30
    )

    assert "nbcluster.start(name='nobody')" in done.stderr
