from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from nbcluster.cli import main
from nbcluster.cli.doctoring import lines_of
from nbcluster.cluster import doctor, remains
from nbcluster.cluster.doctor import examine
from nbcluster.cluster.findings import Finding, Grade
from nbcluster.cluster.remains import belongs_to
from nbcluster.errors import ClusterError, OptionError
from nbcluster.journal import Journal
from nbcluster.transport.connection import Connection, write_connection
from nbcluster.transport.rundir import FileLock, cluster_dir
from tests.helpers import has_ended


def grades(check: str, name: str = "default") -> list[Grade]:
    return [found.grade for found in examine(name) if found.check == check]


def connection(name: str, python: str = "3.0") -> Connection:
    where = cluster_dir(name)
    return Connection(
        name=name,
        epoch=1,
        address="ipc:///nowhere",
        key="k",
        pid=2**22 + 1,
        host="here",
        python=python,
        version="0",
        directory=str(where.path),
        run=str(where.run),
        blobs=str(where.blobs),
        persist=True,
    )


def test_nothing_is_wrong_where_nothing_runs(home: Path) -> None:
    assert [found for found in examine() if found.grade is Grade.FAIL] == []


def test_looking_changes_nothing(home: Path) -> None:
    examine("never-started")

    assert list(home.iterdir()) == []


def test_a_home_that_others_may_write_fails_and_says_what_to_run(home: Path) -> None:
    home.chmod(0o777)

    found = next(f for f in examine() if f.check == "home")

    assert found.grade is Grade.FAIL
    assert found.remedy == f"chmod go-w '{home}'"


def test_a_cluster_directory_that_others_may_enter_fails(home: Path) -> None:
    where = cluster_dir("default")
    where.create()
    try:
        where.path.chmod(0o755)

        assert grades("directory") == [Grade.FAIL]
    finally:
        where.path.chmod(0o700)
        where.remove()


@pytest.mark.parametrize(("missing", "grade"), [("blobs", Grade.WARN), ("logs", Grade.FAIL)])
def test_a_directory_that_a_running_cluster_misses_is_told(
    home: Path, missing: str, grade: Grade
) -> None:
    where = cluster_dir("default")
    where.create()
    lock = FileLock.acquire(where.lock_file)
    assert lock is not None
    try:
        getattr(where, missing).rmdir()

        (found,) = [found for found in examine() if found.check == "directory"]

        assert found.grade is grade
        assert str(getattr(where, missing)) in found.text
        assert found.remedy
    finally:
        lock.release()
        where.remove()
    assert grades("directory") == []


def test_a_master_that_ended_without_notice_is_told_with_the_way_on(home: Path) -> None:
    where = cluster_dir("gone")
    where.create()
    try:
        write_connection(where.connection_file, connection("gone"))

        found = next(f for f in examine() if f.check == "clusters")

        assert found.grade is Grade.WARN
        assert "nbcluster start --name gone" in found.remedy
    finally:
        where.remove()


def test_a_cluster_of_another_python_is_told(home: Path) -> None:
    where = cluster_dir("old")
    where.create()
    lock = FileLock.acquire(where.lock_file)
    assert lock is not None
    try:
        write_connection(where.connection_file, connection("old", python="3.0"))

        assert grades("clusters") == [Grade.WARN]
    finally:
        lock.release()
        where.remove()


def test_a_connection_file_that_others_may_read_fails(home: Path) -> None:
    where = cluster_dir("open")
    where.create()
    try:
        write_connection(where.connection_file, connection("open"))
        where.connection_file.chmod(0o644)

        assert grades("clusters") == [Grade.FAIL]
    finally:
        where.remove()


def test_a_journal_that_is_damaged_fails_and_a_sound_one_does_not(home: Path) -> None:
    (home / "good").mkdir(mode=0o700)
    with Journal(home / "good" / "journal.db"):
        pass
    assert grades("journals") == [Grade.OK]

    (home / "bad").mkdir(mode=0o700)
    (home / "bad" / "journal.db").write_bytes(b"no database at all" * 100)

    assert grades("journals") == [Grade.FAIL, Grade.OK]


def test_the_journal_of_a_running_cluster_is_left_alone(home: Path) -> None:
    (home / "used").mkdir(mode=0o700)
    (home / "used" / "journal.db").write_bytes(b"no database at all" * 100)
    lock = FileLock.acquire(home / "used" / "lock")
    assert lock is not None
    try:
        assert grades("journals") == []
    finally:
        lock.release()


def test_too_few_open_files_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda what: (256, 4096))
    assert grades("open files") == [Grade.WARN]

    monkeypatch.setattr("resource.getrlimit", lambda what: (64, 4096))
    assert grades("open files") == [Grade.FAIL]


def test_a_missing_package_fails_only_if_nothing_works_without_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "_NEEDED", {"no-such-a": True, "no-such-b": False})

    assert grades("packages") == [Grade.FAIL, Grade.WARN, Grade.OK]


def test_a_name_that_cannot_be_one_is_refused() -> None:
    with pytest.raises(OptionError):
        examine("a/b")


@pytest.mark.parametrize(
    ("cmdline", "found"),
    [
        (["py", "-m", "nbcluster.engine", "--connection", "/h/c/connection.json"], "engine"),
        (["py", "-m", "nbcluster.master", json.dumps({"directory": "/h/c"})], "master"),
        (["py", "-m", "nbcluster.master", "{"], ""),
        (["py", "-m", "nbcluster.master", "[]"], ""),
        (["py", "-m", "nbcluster.engine", "--connection"], ""),
        (["py", "-m", "pip", "install", "nbcluster.engine"], ""),
        (["py", "-m"], ""),
        ([], ""),
    ],
)
def test_processes_of_ours_are_known_by_their_command(cmdline: list[str], found: str) -> None:
    what, directory = belongs_to(cmdline)

    assert what == found
    assert not what or directory == Path("/h/c")


@contextmanager
def engine_of(place: Path) -> Iterator[psutil.Process]:
    """Run a process that looks like an engine of the cluster in that directory."""
    command = [sys.executable, "-c", "import time; time.sleep(60)", "-m", "nbcluster.engine"]
    command += ["--connection", str(place / "connection.json")]
    with subprocess.Popen(command) as process:
        try:
            yield psutil.Process(process.pid)
        finally:
            process.kill()


def test_an_engine_of_a_dead_cluster_is_told_and_one_of_another_home_is_not(
    home: Path, tmp_path: Path
) -> None:
    where = cluster_dir("gone")
    where.create()
    try:
        write_connection(where.connection_file, connection("gone"))
        with engine_of(where.path) as ours, engine_of(tmp_path / "gone") as other:
            found = [f for f in examine() if f.check == "processes"]

            assert [f.grade for f in found] == [Grade.WARN]
            assert f"engine {ours.pid} waits for the next master" in found[0].text
            assert found[0].remedy == "nbcluster stop gone --keep"
            assert other.is_running()
    finally:
        where.remove()


def test_a_dead_cluster_is_ended_with_its_engines_and_nobody_elses(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = cluster_dir("gone")
    where.create()
    write_connection(where.connection_file, connection("gone"))
    with engine_of(where.path) as ours, engine_of(tmp_path / "gone") as other:
        assert main(["stop", "gone"]) == 0

        assert has_ended(ours)
        assert not has_ended(other)
        text = capsys.readouterr().out
        assert f"engines that were ended: {ours.pid}" in text
        assert f"removed: {where.path}" in text
    assert not where.path.exists()


def test_a_cluster_that_is_being_started_is_not_ended(home: Path) -> None:
    where = cluster_dir("begins")
    where.create()
    lock = FileLock.acquire(where.lock_file)
    try:
        with pytest.raises(ClusterError, match="started or stopped at this moment"):
            remains.end(where, keep=False)
    finally:
        assert lock is not None
        lock.release()
        where.remove()


def test_large_arguments_of_a_journal_elsewhere_are_not_dropped_unasked(home: Path) -> None:
    where = cluster_dir("gone")
    where.create()
    try:
        write_connection(where.connection_file, connection("gone"))
        (where.blobs / "b").touch()

        with pytest.raises(ClusterError, match="--keep"):
            remains.end(where, keep=None)

        assert (where.blobs / "b").exists()
        remains.end(where, keep=False)
        assert not where.blobs.exists()
    finally:
        where.remove()


def test_a_dead_cluster_is_listed_with_the_way_on(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = cluster_dir("gone")
    where.create()
    try:
        write_connection(where.connection_file, connection("gone"))

        assert main(["list"]) == 0
        text = capsys.readouterr().out
        assert "nbcluster start --name gone" in text
        assert "nbcluster stop gone --keep" in text
        assert "nbcluster stop gone --cancel" in text

        assert main(["status", "gone"]) == 1
        assert "'gone' is dead" in capsys.readouterr().err
    finally:
        where.remove()


def test_the_exit_code_tells_a_program_whether_something_failed(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--json"]) == 0
    before = json.loads(capsys.readouterr().out)
    home.chmod(0o777)

    assert main(["doctor"]) == 1

    assert {"check", "grade", "text", "remedy"} == set(before[0])
    assert f"chmod go-w '{home}'" in capsys.readouterr().out
    os.chmod(home, 0o700)


def test_each_finding_is_a_line_and_a_remedy_one_more() -> None:
    findings = [Finding("a", Grade.OK, "fine"), Finding("bc", Grade.FAIL, "broken", "mend it")]

    assert lines_of(findings) == ["ok    a   fine", "fail  bc  broken", "          -> mend it"]
    assert "\x1b[31mfail" in lines_of(findings, colour=True)[1]
