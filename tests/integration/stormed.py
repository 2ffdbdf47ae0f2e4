"""Uses a cluster while signals rain on it whose handler uses it too.

Run with the name of the cluster, of a signal, of what to do in the main thread, of what the
handler does, and a number of seconds. It prints how many handlers have run.
"""

from __future__ import annotations

import concurrent.futures
import faulthandler
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import nbcluster

END_S: Final = 15.0


def submit(cluster: nbcluster.Cluster) -> None:
    futures = [cluster.submit(abs, -n) for n in range(400)]
    assert futures[-1].result(END_S) == 399


def result(cluster: nbcluster.Cluster) -> None:
    for n in range(20):
        assert cluster.submit(abs, -n).result(END_S) == n


def led_by_another(cluster: nbcluster.Cluster) -> None:
    """Wait for a result while another thread receives."""
    futures = [cluster.submit(abs, -n) for n in range(50)]
    thread = threading.Thread(target=lambda: [future.result(END_S) for future in futures])
    thread.start()
    assert [future.result(END_S) for future in futures] == list(range(50))
    thread.join()


def map_(cluster: nbcluster.Cluster) -> None:
    assert sum(cluster.map(abs, range(-100, 0))) == 5050


def as_completed(cluster: nbcluster.Cluster) -> None:
    futures: list[Any] = [cluster.submit(abs, -n) for n in range(50)]
    done = concurrent.futures.as_completed(futures, END_S)
    assert sum(future.result() for future in done) == 1225


def wait(cluster: nbcluster.Cluster) -> None:
    futures: list[Any] = [cluster.submit(abs, -n) for n in range(50)]
    assert not concurrent.futures.wait(futures, END_S).not_done


def ask(cluster: nbcluster.Cluster) -> None:
    """Look at futures until they are done."""
    futures: list[Any] = [cluster.submit(abs, -n) for n in range(50)]
    while any(future.running() or not (future.cancelled() or future.done()) for future in futures):
        pass


def add_callbacks(cluster: nbcluster.Cluster) -> None:
    futures: list[Any] = [cluster.submit(abs, -n) for n in range(50)]
    while not all(future.done() for future in futures):
        for future in futures:
            future.add_done_callback(id)


def handle_waiting(cluster: nbcluster.Cluster) -> None:
    """Do what waits for the master."""
    future = cluster.submit(time.sleep, 600)
    assert cluster.stats()["age_s"] == 0
    assert future.cancel()
    assert cluster.submit(len, "ab").result(END_S) == 2


def handle_submitting(cluster: nbcluster.Cluster) -> None:
    """Do what waits for nobody."""
    cluster.submit(len, "ab")


def main(name: str, sign: str, what: str, how: str, *, seconds: float) -> None:
    faulthandler.dump_traceback_later(seconds + 2 * END_S, exit=True)  # where it hangs
    cluster = nbcluster.connect(name)
    number = signal.Signals[sign]
    use: Callable[[nbcluster.Cluster], None] = globals()[what]
    handle: Callable[[nbcluster.Cluster], None] = globals()[how]
    is_handling, count = False, 0
    main_thread, is_over = threading.get_ident(), threading.Event()

    def handler(*_: Any) -> None:
        nonlocal is_handling, count
        if not is_handling:  # it is interrupted itself
            is_handling = True
            handle(cluster)
            count += 1
            is_handling = False

    def rain() -> None:
        while not is_over.wait(0.0007):
            signal.pthread_kill(main_thread, number)

    signal.signal(number, handler)
    thread = threading.Thread(target=rain)
    thread.start()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        use(cluster)
    is_over.set()
    thread.join()
    assert signal.getsignal(number) is handler
    assert cluster.submit(len, "abc").result(END_S) == 3
    cluster.close()
    print(count)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:5], seconds=float(sys.argv[5]))
