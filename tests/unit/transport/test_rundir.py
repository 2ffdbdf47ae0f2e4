"""Where a cluster lies, who may enter, and who holds its lock."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nbcluster.errors import ClusterTimeoutError, OptionError, RuntimeDirError
from nbcluster.transport import rundir
from nbcluster.transport.rundir import ClusterDir, FileLock, cluster_dir, known_clusters
from tests.helpers import eventually


@pytest.fixture
def cluster(home: Path) -> Iterator[ClusterDir]:
    directory = cluster_dir("one")
    directory.create()
    yield directory
    for path in (directory.path, directory.blobs):  # as a test may have left them
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o700)
            os.chown(path, os.geteuid(), os.getegid())
    directory.remove()


def mode(path: Path) -> str:
    return oct(stat.S_IMODE(path.lstat().st_mode))


def private(cluster: ClusterDir) -> list[Path]:
    return [cluster.path, cluster.logs, cluster.run, cluster.blobs]


# --------------------------------------------------------------------------- paths


def test_clusters_lie_in_the_directory_that_the_environment_names(home: Path) -> None:
    assert rundir.home() == home
    assert cluster_dir("one").path == home / "one"


@pytest.mark.parametrize("value", [None, ""])
def test_without_one_they_lie_in_the_users_own(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    if value is None:
        monkeypatch.delenv("NBCLUSTER_HOME")
    else:
        monkeypatch.setenv("NBCLUSTER_HOME", value)
    monkeypatch.setenv("HOME", "/somewhere")

    assert rundir.home() == Path("/somewhere/.nbcluster")


def test_one_directory_has_one_name(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = home.with_name(home.name + "-link")
    other.symlink_to(home)
    monkeypatch.setenv("NBCLUSTER_HOME", str(other))

    found = rundir.home()

    other.unlink()
    assert found == home


def test_each_file_has_its_place(home: Path) -> None:
    cluster = cluster_dir("one")
    names = [cluster.connection_file, cluster.lock_file, cluster.journal_file, cluster.logs]

    assert [p.relative_to(home / "one").as_posix() for p in names] == [
        "connection.json",
        "lock",
        "journal.db",
        "logs",
    ]


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "x" * 64])
def test_a_name_that_is_no_file_name_is_refused(name: str) -> None:
    with pytest.raises(OptionError):
        cluster_dir(name)


def test_blobs_of_two_clusters_lie_apart(home: Path) -> None:
    assert cluster_dir("one").blobs != cluster_dir("two").blobs


def test_blobs_lie_in_the_cluster_where_there_is_no_shared_memory(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rundir, "_SHARED_MEMORY", home / "none")
    cluster = cluster_dir("one")

    cluster.create()

    assert cluster.blobs == home / "one" / "blobs"
    assert mode(cluster.blobs) == "0o700"
    cluster.remove()
    assert list(home.iterdir()) == []


# --------------------------------------------------------------------------- sockets


def test_a_socket_is_named_by_its_epoch(cluster: ClusterDir) -> None:
    assert Path(cluster.socket_path(1)).parent == cluster.run
    assert cluster.socket_path(1) != cluster.socket_path(2)


def long_cluster(home: Path) -> ClusterDir:
    return ClusterDir("n" * 63, home / ("d" * 40) / ("n" * 63))


@pytest.mark.parametrize("temporary", ["", "t" * 80])
def test_the_path_of_a_socket_is_short_however_deep_the_cluster_lies(
    home: Path, monkeypatch: pytest.MonkeyPatch, temporary: str
) -> None:
    if temporary:
        monkeypatch.setattr(tempfile, "tempdir", str(home / temporary))
    cluster = long_cluster(home)

    cluster.create()

    path = cluster.socket_path(123_456)
    assert len(path) <= 100
    assert mode(Path(path).parent) == mode(Path(path).parent.parent) == "0o700"
    Path(path).touch()
    cluster.remove()
    assert not Path(path).parent.exists()


def test_the_directory_of_a_clusters_sockets_does_not_change_with_the_epoch(home: Path) -> None:
    for length in range(63):
        cluster = ClusterDir("n", home / ("n" * length))

        parents = {Path(cluster.socket_path(epoch)).parent for epoch in (1, 99_999)}

        assert len(parents) == 1


def test_sockets_of_other_epochs_are_swept(cluster: ClusterDir) -> None:
    paths = [Path(cluster.socket_path(epoch)) for epoch in (1, 2, 3)]
    other = cluster.run / "page"
    for path in (*paths, other):
        path.touch()

    cluster.sweep_sockets(2)

    assert sorted(cluster.run.iterdir()) == sorted([paths[1], other])


# --------------------------------------------------------------------------- who may enter


def test_all_directories_are_made_for_the_user_alone(home: Path) -> None:
    home.rmdir()
    old = os.umask(0)
    try:
        cluster = cluster_dir("one")
        cluster.create()
    finally:
        os.umask(old)

    assert {mode(path) for path in [*private(cluster), home, cluster.blobs.parent]} == {"0o700"}
    cluster.remove()


def test_creating_twice_changes_nothing(cluster: ClusterDir) -> None:
    cluster.journal_file.touch()

    cluster.create()

    assert cluster.journal_file.exists()


@pytest.mark.parametrize("index", range(4))
def test_a_directory_that_others_may_enter_is_refused(cluster: ClusterDir, index: int) -> None:
    path = private(cluster)[index]
    path.chmod(0o750)

    for act in (cluster.create, cluster.check):
        with pytest.raises(RuntimeDirError, match=f"chmod 700 '{path}'"):
            act()


@pytest.mark.parametrize("index", range(4))
def test_a_link_in_the_place_of_a_directory_is_refused(
    cluster: ClusterDir, index: int, tmp_path: Path
) -> None:
    path = private(cluster)[index]
    target = tmp_path / "target"
    target.mkdir(0o700)
    shutil.rmtree(path)
    path.symlink_to(target)

    with pytest.raises(RuntimeDirError, match="symbolic link"):
        cluster.create()
    path.unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
@pytest.mark.parametrize("index", range(4))
def test_a_directory_of_somebody_else_is_refused(cluster: ClusterDir, index: int) -> None:
    path = private(cluster)[index]
    os.chown(path, 12_345, -1)

    with pytest.raises(RuntimeDirError, match="belongs to user 12345"):
        cluster.check()


def test_a_file_in_the_place_of_a_directory_is_refused(home: Path) -> None:
    (home / "one").touch(0o600)

    with pytest.raises(RuntimeDirError, match="not a directory"):
        cluster_dir("one").create()


@pytest.mark.parametrize("bits", [0o720, 0o702])
def test_a_home_into_which_others_may_write_is_refused(home: Path, bits: int) -> None:
    home.chmod(bits)

    with pytest.raises(RuntimeDirError, match="chmod go-w"):
        cluster_dir("one").create()
    cluster_dir("one").remove()


def test_a_home_that_others_may_read_will_do(home: Path) -> None:
    home.chmod(0o755)

    cluster_dir("one").create()

    cluster_dir("one").remove()


# --------------------------------------------------------------------------- removing


def test_removing_leaves_nothing(cluster: ClusterDir) -> None:
    for path in private(cluster):
        (path / "deep").mkdir()
        (path / "deep" / "file").touch()

    cluster.remove()
    cluster.remove()

    assert not cluster.path.exists()
    assert not cluster.blobs.exists()


def test_removing_follows_no_links(cluster: ClusterDir, tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    (cluster.run / "link").symlink_to(tmp_path)
    cluster.blobs.rmdir()
    cluster.blobs.symlink_to(tmp_path)

    cluster.remove()

    assert (tmp_path / "precious").exists()
    assert not cluster.blobs.is_symlink()


def test_removing_leaves_the_blobs_of_other_clusters(cluster: ClusterDir, home: Path) -> None:
    other = cluster_dir("two")
    other.create()

    cluster.remove()

    assert other.blobs.exists()
    other.remove()


def test_a_sweep_removes_what_a_dead_master_left_and_nothing_else(cluster: ClusterDir) -> None:
    stale = [
        Path(cluster.socket_path(1)),
        cluster.run / "page",
        cluster.blobs / "a",
        cluster.run / "directory",
    ]
    kept = [cluster.journal_file, cluster.logs / "master.log", cluster.blobs / "b"]
    for path in (*stale[:3], *kept):
        path.touch()
    stale[3].mkdir()

    cluster.sweep(keep_blobs={"b"})

    assert [path.exists() for path in stale] == [False] * 4
    assert [path.exists() for path in kept] == [True] * 3


def test_a_sweep_follows_no_links(cluster: ClusterDir, tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    cluster.blobs.rmdir()
    cluster.blobs.symlink_to(tmp_path)

    cluster.sweep()

    assert (tmp_path / "precious").exists()
    cluster.blobs.unlink()


# --------------------------------------------------------------------------- shared memory


def test_what_a_removed_cluster_left_in_shared_memory_goes_with_the_next_start_or_stop(
    cluster: ClusterDir, home: Path
) -> None:
    for act in (cluster.create, cluster_dir("three").remove):
        other = cluster_dir("two")
        other.create()
        (other.blobs / "large").touch()
        shutil.rmtree(other.path)

        act()

        assert list(other.blobs.parent.glob(other.blobs.name + "*")) == []
        cluster.check()


def test_the_directory_of_large_buffers_is_made_again_for_the_user_alone_and_is_removed_with_it(
    cluster: ClusterDir,
) -> None:
    for path in cluster.blobs.parent.glob(cluster.blobs.name + "*"):
        path.unlink() if path.is_symlink() else path.rmdir()

    cluster.make_blobs()

    cluster.check()
    shutil.rmtree(cluster.path)
    cluster_dir("two").remove()  # as every start and stop: it sweeps what has no cluster
    assert not cluster.blobs.exists()


def test_the_directory_of_large_buffers_is_not_made_again_for_a_cluster_that_is_gone(
    cluster: ClusterDir,
) -> None:
    cluster.remove()

    with pytest.raises(RuntimeDirError, match="was removed"):
        cluster.make_blobs()

    assert not cluster.blobs.exists()


def test_a_cluster_whose_file_system_does_not_answer_keeps_what_it_has_in_shared_memory(
    cluster: ClusterDir, home: Path
) -> None:
    other = cluster_dir("two")
    other.create()
    (link,) = other.blobs.parent.glob(other.blobs.name + ".*")
    round_about = home / "loop"
    round_about.symlink_to(round_about)
    link.unlink()
    link.symlink_to(round_about / "two")  # an error that does not say whether it is there

    cluster.create()

    assert other.blobs.exists()
    other.remove()


def test_what_a_cluster_of_another_container_has_in_shared_memory_stays(
    cluster: ClusterDir, home: Path
) -> None:
    other = cluster_dir("two")
    other.create()
    (link,) = other.blobs.parent.glob(other.blobs.name + ".*")
    link.rename(link.with_suffix(".1"))  # its homes are not to be seen from here
    shutil.rmtree(other.path)

    cluster.create()

    assert other.blobs.exists()
    other.remove()
    assert list(other.blobs.parent.glob(other.blobs.name + "*")) == []


def test_a_start_waits_while_another_process_sweeps(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rundir, "_SHARED_MEMORY", home / "shm")
    cluster = cluster_dir("one")
    (home / "shm").mkdir(0o700)
    shared = cluster.blobs.parent
    shared.mkdir(0o700)
    fd = os.open(shared, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    thread = threading.Thread(target=cluster.create)
    thread.start()
    eventually(cluster.run.exists)
    thread.join(0.2)
    assert not cluster.blobs.exists()

    shared.rmdir()  # it was the last one there
    os.close(fd)

    thread.join(30)
    cluster.check()
    cluster.remove()
    assert not shared.exists()


def test_clusters_that_come_and_go_leave_each_other_alone(home: Path) -> None:
    def come_and_go(name: str) -> None:
        directory = cluster_dir(name)
        for n in range(60):
            directory.create()
            (directory.blobs / "large").touch()
            shutil.rmtree(directory.path) if n % 2 else directory.remove()
        directory.remove()

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(come_and_go, "abcd")) == [None] * 4


# --------------------------------------------------------------------------- known clusters


def test_known_are_the_clusters_with_a_connection_file(home: Path) -> None:
    for name in ("two", "one", "bare", "not a cluster"):
        (home / name).mkdir()
        if name != "bare":
            (home / name / "connection.json").touch()
    (home / "link").symlink_to(home / "one")

    assert [cluster.name for cluster in known_clusters()] == ["one", "two"]


def test_without_a_home_no_cluster_is_known(home: Path) -> None:
    home.rmdir()

    assert known_clusters() == []


# --------------------------------------------------------------------------- the lock


def test_a_lock_is_held_once(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not FileLock.is_held(path)

    lock = FileLock.acquire(path)

    assert lock is not None
    assert FileLock.acquire(path) is None
    assert FileLock.is_held(path)
    lock.release()
    lock.release()
    assert not FileLock.is_held(path)
    assert mode(path) == "0o600"


def test_looking_whether_a_lock_is_held_does_not_take_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    FileLock.is_held(path)

    lock = FileLock.acquire(path)

    assert lock is not None
    lock.release()


def test_a_child_does_not_inherit_the_lock(tmp_path: Path) -> None:
    lock = FileLock.acquire(tmp_path / "lock")
    assert lock is not None
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        close_fds=False,
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()  # before that the system may not have closed anything yet
        lock.release()

        assert not FileLock.is_held(tmp_path / "lock")
        child.kill()


def test_a_lock_whose_file_was_removed_is_not_taken_for_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    old = FileLock.acquire(path)
    assert old is not None
    path.unlink()

    new = FileLock.acquire(path)

    assert new is not None
    assert FileLock.is_held(path)
    old.release()
    assert FileLock.is_held(path)
    new.release()


def test_waiting_ends_at_its_deadline(tmp_path: Path) -> None:
    lock = FileLock.acquire(tmp_path / "lock")
    assert lock is not None

    with pytest.raises(ClusterTimeoutError, match="still locked"):
        FileLock.wait(tmp_path / "lock", timeout=0.0)

    lock.release()


def in_thread(act: Callable[[], FileLock]) -> tuple[threading.Thread, list[FileLock]]:
    got: list[FileLock] = []
    thread = threading.Thread(target=lambda: got.append(act()))
    thread.start()
    return thread, got


@pytest.mark.parametrize("timeout", [None, 30.0])
def test_who_waits_gets_the_lock_when_it_is_released(tmp_path: Path, timeout: float | None) -> None:
    path = tmp_path / "lock"
    lock = FileLock.acquire(path)
    assert lock is not None
    thread, got = in_thread(lambda: FileLock.wait(path, timeout))

    lock.release()

    thread.join(30)
    assert FileLock.is_held(path)
    got[0].release()


def test_who_waits_for_a_lock_that_was_removed_gets_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock = FileLock.acquire(path)
    assert lock is not None
    thread, got = in_thread(lambda: FileLock.wait(path))
    path.unlink()

    lock.release()

    thread.join(30)
    assert FileLock.acquire(path) is None
    got[0].release()


def test_a_link_is_not_locked(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "other")

    with pytest.raises(OSError, match="symbolic links"):
        FileLock.acquire(tmp_path / "lock")
