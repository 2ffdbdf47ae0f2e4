"""Bad programs: tasks that do to their process what a user's code may do to it.

They lie in a module of their own that imports nothing heavy, because executors import it.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

# ruff: noqa: T201 - that a task prints is what is tested


def interrupt() -> NoReturn:
    raise KeyboardInterrupt("mine")


def recurse(n: int = 0) -> int:
    return recurse(n + 1) + 1


def recurse_in_c() -> Any:
    deep: list[Any] = []
    for _ in range(200_000):
        deep = [deep]
    return deep


def segfault() -> None:
    ctypes.string_at(0)


def allocate_beyond_limit() -> int:
    soft = Path("/proc/self/statm").read_text().split()[0]
    limit = int(soft) * resource.getpagesize() + (64 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    try:
        return len(bytearray(1 << 30))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def print_much(megabytes: int) -> int:
    print("first line")
    line = "x" * (1 << 20)
    for _ in range(megabytes):
        print(line)
    print("last line")
    return megabytes


def write_much_in_c(megabytes: int) -> int:
    data = b"y" * (1 << 20)
    for _ in range(megabytes):
        os.write(2, data)
    return megabytes


def change_directory() -> str:
    os.chdir("/")
    return os.getcwd()


def install_handlers() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def fork_and_return() -> str:
    return "child" if os.fork() == 0 else "parent"


def fork_and_raise() -> str:
    if os.fork() == 0:
        raise ValueError("in the child")
    return "parent"


def leave_threads() -> int:
    def spin() -> None:
        while True:
            time.sleep(0.01)

    for daemon in (True, False):
        threading.Thread(target=spin, daemon=daemon).start()
    return threading.active_count()


def close_streams() -> str:
    sys.stdout.close()
    os.close(2)
    return "closed"


def replace_streams() -> str:
    sys.stdout = None
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return "replaced"


def close_everything() -> str:
    os.closerange(3, 256)
    return "closed"


def huge(size: int) -> bytes:
    return bytes(size)


def loop_for_ever() -> NoReturn:
    while True:
        pass


def loop_deaf_for_ever() -> NoReturn:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            time.sleep(60)
        except BaseException:  # noqa: BLE001 - as bad programs do
            continue


def stop_myself() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def kill_my_engine() -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


def kill_my_group() -> None:
    os.killpg(0, signal.SIGKILL)


def alarm_later() -> str:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    return "armed"


def spoil_interpreter() -> str:
    gc.disable()
    sys.setrecursionlimit(120)
    sys.argv = []
    sys.path.clear()
    time.time = None  # type: ignore[assignment]
    return "spoilt"


def leave_loop() -> str:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    return "left"


async def run_loop() -> int:
    await asyncio.sleep(0)
    return 2


def generator() -> Any:
    return (i for i in range(3))


def cwd() -> str:
    return os.getcwd()
