"""What is said of an exception, whatever its class does."""

from __future__ import annotations

from pathlib import Path

from nbcluster.core.model import Run, Verdict
from nbcluster.engine.executor.failures import describe, raised
from nbcluster.serial.blobs import BlobStore
from nbcluster.serial.unpack import Unpacker


def caught(error: BaseException) -> BaseException:
    """Return the error with a traceback, as user code raises it."""
    try:
        raise error
    except type(error) as same:
        return same


def test_type_message_and_traceback_are_told() -> None:
    info = describe(caught(ValueError("wrong")))

    assert (info.type, info.message) == ("ValueError", "wrong")
    assert info.traceback.startswith("Traceback (most recent call last):")
    assert "in caught" in info.traceback


def test_message_and_traceback_are_bounded() -> None:
    info = describe(caught(ValueError("x" * 100_000)))

    assert len(info.message) == 2_000
    assert len(info.traceback) == 16_000


def test_an_error_without_a_text_is_described() -> None:
    class Silent(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert "cannot be made" in describe(caught(Silent())).message


def test_text_that_cannot_be_encoded_is_replaced() -> None:
    info = describe(caught(ValueError("half \ud800 pair")))

    assert info.message == "half ? pair"
    info.traceback.encode()


def test_an_error_that_breaks_the_traceback_module_is_described() -> None:
    class Strange(Exception):
        @property
        def __notes__(self) -> list[str]:  # type: ignore[override]
            raise RuntimeError

    assert describe(caught(Strange("x"))).type == "Strange"


def test_deep_recursion_is_described() -> None:
    def deep() -> None:
        deep()

    try:
        deep()
    except RecursionError as error:
        info = describe(error)

    assert info.type == "RecursionError"
    assert "repeated" in info.traceback


def test_a_name_that_only_the_shell_has_is_told_to_be_its_own() -> None:
    for name, is_told in (("In", True), ("mine", False)):
        try:
            eval(name, {})
        except NameError as error:
            info = describe(error)

        assert (f"{name} is IPython's own" in info.traceback) == is_told


def test_an_error_of_a_name_that_is_none_is_told_as_it_is() -> None:
    assert describe(NameError("mine", name=["no", "name"])).message == "mine"  # type: ignore[arg-type]


def test_retry_on_that_cannot_be_loaded_means_no_retry(tmp_path: Path) -> None:
    unpacker = Unpacker(BlobStore(tmp_path, "x"))
    run = Run("t", 1, 1, "fn", b"", (), "gone")

    def load(name: str) -> object:
        raise KeyError(name)

    outcome = raised(run, 1.0, 2.0, caught(OSError("x")), unpacker, load)

    assert (outcome.verdict, outcome.retryable) == (Verdict.EXCEPTION, False)
