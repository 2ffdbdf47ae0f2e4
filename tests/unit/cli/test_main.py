from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import nbcluster
from nbcluster import cli
from nbcluster.errors import ClusterError, OptionError

VERBS = (
    *("start", "stop", "list", "status", "tasks", "engine", "submit", "journal", "doctor", "demo"),
)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([verb, "--help"]) == 0

    text = capsys.readouterr().out
    assert f"nbcluster {verb}" in text
    assert "--log-level" in text


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0

    text = capsys.readouterr().out
    assert [verb for verb in VERBS if f"\n  {verb} " not in text] == []


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0

    assert capsys.readouterr().out == f"nbcluster {nbcluster.__version__}\n"


@pytest.mark.parametrize(
    "words", [[], ["frobnicate"], ["list", "--frobnicate"], ["-l", "x", "list"]]
)
def test_wrong_usage_ends_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2

    assert "usage: nbcluster" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ClusterError("it is gone"), 1),
        (FileNotFoundError("it is gone"), 1),
        (OptionError("it is gone"), 2),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    error: Exception,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cli, "_dispatch", _raising(error))

    assert cli.main(["list"]) == code

    assert capsys.readouterr().err == "nbcluster: it is gone\n"


def test_a_closed_output_is_no_traceback(home: Path) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f'"{sys.executable}" -m nbcluster list >&-'],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["tasks", "--failed", "--state", "running"], "contradict"),
        (["engine", "--import", "no_such_module_here"], "no module 'no_such_module_here'"),
        (["start", "-n", "1", "--retention", "-1"], "retention="),
        (["start", "-n", "1", "--import", "no_such_module_here"], "no module 'no_such_module"),
        (["submit", "--", "math:no_such"], "math:no_such"),
        (["doctor", "a/b"], "'a/b'"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_ends_with_2_before_anything_is_made(
    words: list[str], told: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 2

    assert told in capsys.readouterr().err
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "code", "kind"),
    [
        (["status", "nowhere"], 1, "ClusterConnectionError"),
        (["tasks", "--failed", "--state", "running"], 2, "OptionError"),
        (["stop", "--cancel", "--keep"], 2, "OptionError"),
        (["journal", "info", "nowhere.db"], 1, "FileNotFoundError"),
    ],
    ids=str,
)
def test_a_program_reads_an_error_as_json_and_a_person_beside_it(
    words: list[str], code: int, kind: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*words, "--json"]) == code

    said = capsys.readouterr()
    error = json.loads(said.out)["error"]
    assert (error["type"], f"nbcluster: {error['message']}\n") == (kind, said.err)
    assert cli.main(words) == code
    assert capsys.readouterr() == ("", said.err)


def test_an_engine_does_not_wait_in_a_directory_that_is_not_there(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["engine", "--join", str(home / "none" / "connection.json")]) == 1

    assert "there is no directory" in capsys.readouterr().err


def test_help_tells_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["--help"])

    text = capsys.readouterr().out
    assert [
        code for code in ("0 done", "1 failed", "2 wrong", "130", "141") if code not in text
    ] == []


def test_an_interrupt_ends_with_130_and_says_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "_dispatch", _raising(KeyboardInterrupt()))

    assert cli.main(["list"]) == 130
    assert capsys.readouterr().err == ""


def _raising(error: BaseException) -> Callable[[list[str]], int]:
    def dispatch(words: list[str]) -> int:
        raise error

    return dispatch


def test_a_flag_before_the_verb_is_the_same_as_after_it(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["-l", "debug", "list", "--json"]) == 0

    assert capsys.readouterr().out == "[]\n"


def test_help_loads_none_of_what_the_verbs_need() -> None:
    code = (
        "import sys; from nbcluster.cli import main; main(['--help'])\n"
        "heavy = {'zmq', 'msgspec', 'pandas', 'psutil', 'nbcluster.client', 'sqlite3'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
