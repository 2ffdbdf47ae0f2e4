"""A cluster whose journal lies elsewhere goes on with that one, and all advice names it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

import nbcluster
from nbcluster import Cluster
from nbcluster.cli import main
from nbcluster.errors import ClusterConnectionError, ClusterError, ClusterTimeoutError
from tests.conftest import Up
from tests.helpers import eventually
from tests.integration import calls
from tests.integration.test_faults import kill_master

END_S: Final = 20.0


@pytest.fixture
def journal(tmp_path: Path) -> str:
    """Return the path of a journal in a folder whose name has a blank."""
    (tmp_path / "my files").mkdir()
    return str(tmp_path / "my files" / "j.db")


@pytest.fixture
def dead(up: Up, home: Path, gate: Path, journal: str) -> Iterator[Cluster]:
    """Return a handle of a cluster that had a task and that journal when its master was killed."""
    up(1, name="far", journal=journal)
    cluster = nbcluster.connect("far")
    eventually(cluster.submit(calls.wait_for, str(gate), 7).running)
    kill_master(cluster)
    eventually(lambda: cluster._client.link.is_lost)
    yield cluster
    cluster.close()


def raised(call: Callable[[], object], kind: type[Exception]) -> str:
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


def test_the_advice_after_the_death_of_a_master_names_its_journal(
    dead: Cluster, journal: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (future,) = dead._client.open_futures()
    said = [
        future.why(),
        raised(lambda: future.result(0.1), TimeoutError),
        raised(dead.tasks, ClusterConnectionError),
        raised(dead.stop, ClusterConnectionError),
    ]
    for text in said:
        assert f"nbcluster.start(name='far', journal={journal!r})" in text

    for command in ("list", "status far", "stop far", "doctor far", "stop far --keep", "list"):
        main(command.split())
        out, err = capsys.readouterr()
        assert f"nbcluster start --name far --journal {shlex.quote(journal)}" in out + err, command


@pytest.mark.parametrize("engines", [None, 1])
@pytest.mark.parametrize("first", [None, "stop far --keep"])
def test_a_start_goes_on_with_the_journal_of_the_last_master_and_says_so(
    up: Up,
    dead: Cluster,
    gate: Path,
    journal: str,
    capsys: pytest.CaptureFixture[str],
    engines: int | None,
    first: str | None,
) -> None:
    (future,) = dead._client.open_futures()
    if first:
        assert main(first.split()) == 0
    again = up(engines, name="far")
    gate.touch()

    assert future.result(END_S) == 7
    assert len(again.tasks()) == 1
    assert journal in capsys.readouterr().err


@pytest.mark.parametrize("how", ["handle", "command"])
def test_a_cluster_that_was_stopped_and_kept_remembers_its_journal(
    up: Up, home: Path, gate: Path, journal: str, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = up(1, name="far", journal=journal)
    task = cluster.submit(calls.wait_for, str(gate), 7).id
    if how == "handle":
        cluster.stop(keep=True)
    else:
        assert main(["stop", "far", "--keep"]) == 0
    capsys.readouterr()

    assert main(["list"]) == 0
    assert shlex.quote(journal) in capsys.readouterr().out
    gate.touch()
    assert up(1, name="far").future(task).result(END_S) == 7


def test_a_journal_without_tasks_is_told_of_as_well(
    up: Up, home: Path, journal: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kill_master(up(1, name="far", journal=journal))

    up(1, name="far")

    assert journal in capsys.readouterr().err


@pytest.mark.parametrize("first", [None, "stop far --keep"])
def test_a_start_that_fails_does_not_forget_where_the_journal_is(
    up: Up, dead: Cluster, gate: Path, first: str | None
) -> None:
    (future,) = dead._client.open_futures()
    if first:
        assert main(first.split()) == 0
    with pytest.raises(ClusterTimeoutError):
        nbcluster.start(20, name="far", timeout=0.4)
    gate.touch()

    # By its id: the handle may have met the master that was taken back.
    assert up(1, name="far").future(future.id).result(END_S) == 7


def test_a_start_with_another_journal_does_not_drop_what_is_open_in_the_last_one(
    up: Up, dead: Cluster, gate: Path, journal: str, tmp_path: Path
) -> None:
    (future,) = dead._client.open_futures()

    text = raised(
        lambda: nbcluster.start(1, name="far", journal=tmp_path / "other.db"), ClusterError
    )

    assert "open tasks: 1" in text
    assert journal in text
    gate.touch()
    up(1, name="far", journal=journal)
    assert future.result(END_S) == 7


@pytest.mark.parametrize("last", ["its own", "elsewhere"])
def test_a_start_with_another_journal_does_not_drop_what_was_kept(
    up: Up, home: Path, gate: Path, journal: str, last: str, tmp_path: Path
) -> None:
    cluster = up(1, name="far", journal=journal if last == "elsewhere" else None)
    task = cluster.submit(calls.wait_for, str(gate), 7).id
    cluster.stop(keep=True)

    text = raised(
        lambda: nbcluster.start(1, name="far", journal=tmp_path / "other.db"), ClusterError
    )

    assert "open tasks: 1" in text
    gate.touch()
    assert up(1, name="far").future(task).result(END_S) == 7


def test_a_start_with_another_journal_does_not_drop_dead_letters_that_were_kept(
    up: Up, home: Path, tmp_path: Path
) -> None:
    cluster = up(1, name="far")
    dead = cluster.submit(int, "for good")
    assert isinstance(dead.exception(END_S), ValueError)
    cluster.stop(keep=True)

    text = raised(
        lambda: nbcluster.start(1, name="far", journal=tmp_path / "other.db"), ClusterError
    )

    assert "dead letters: 1" in text
    assert list(up(1, name="far").dead_letters().index) == [dead.id]


def test_large_results_of_ended_tasks_keep_no_cluster_whose_owner_has_gone(
    up: Up, home: Path, journal: str, tmp_path: Path
) -> None:
    cluster = up(1, name="far", journal=journal)
    assert len(cluster.submit(bytes, 3_000_000).result(END_S)) == 3_000_000
    cluster.shutdown()

    assert not (home / "far").exists()
    assert up(1, name="far", journal=tmp_path / "other.db").submit(len, "ab").result(END_S) == 2


def test_a_start_without_the_journal_of_the_last_master_says_what_can_be_done(
    dead: Cluster, journal: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in Path(journal).parent.iterdir():
        path.unlink()

    text = raised(lambda: nbcluster.start(1, name="far"), ClusterError)

    assert journal in text
    assert "nbcluster stop far --cancel" in text
    dead.close()
    assert main(["stop", "far", "--cancel"]) == 0
    with nbcluster.start(1, name="far") as cluster:
        assert cluster.submit(len, "ab").result(END_S) == 2
