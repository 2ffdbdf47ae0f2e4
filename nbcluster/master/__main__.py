"""``python -m nbcluster.master``: one master process."""

from __future__ import annotations

import gc
import logging
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

import nbcluster
from nbcluster.clock import Clock
from nbcluster.core.machine import Machine
from nbcluster.core.memo import Limits
from nbcluster.core.records import GroupWanted
from nbcluster.errors import FencedError, JournalError, NbclusterError
from nbcluster.journal import Journal
from nbcluster.master import rebuild
from nbcluster.master.config import EXIT_LOCKED, MasterConfig
from nbcluster.master.keeper import Keeper
from nbcluster.master.loop import Loop
from nbcluster.transport.connection import Connection, new_key, write_connection
from nbcluster.transport.descriptors import wakeup_pipe, watch
from nbcluster.transport.journals import note_journal
from nbcluster.transport.rundir import ClusterDir, FileLock
from nbcluster.transport.sockets import Router

log = logging.getLogger("nbcluster.master")

#: Exit code of a master that could not start; the reason is on its standard error.
EXIT_FAILED = 1


def main(argv: list[str]) -> int:
    """Run a master with the configuration in ``argv[1]`` (JSON)."""
    config = msgspec.json.decode(argv[1], type=MasterConfig)
    where = ClusterDir(config.name, Path(config.directory))
    logging.basicConfig(
        filename=where.logs / "master.log",
        level=config.log_level,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    lock = FileLock.acquire(where.lock_file)
    if lock is None:
        print(f"cluster {config.name!r} already has a master", file=sys.stderr)
        return EXIT_LOCKED
    where.connection_file.unlink(missing_ok=True)  # a dead master's: it would mislead engines
    try:
        return _run(config, where)
    except NbclusterError as error:
        log.error("%s", error)
        print(f"{type(error).__name__}\n{error}", file=sys.stderr, flush=True)
        if not where.path.exists():
            where.remove()  # what lies in shared memory
        return EXIT_FAILED
    finally:
        lock.release()


def _run(config: MasterConfig, where: ClusterDir) -> int:
    poller = select.poll()
    owner = (config.owner_fd, config.owner_pid) if config.owner_fd >= 0 else None
    clock = Clock()
    keeper = Keeper(where.connection_file, owner, poller, where.logs, config, clock)
    is_new = not os.path.exists(config.journal)
    journal = Journal(config.journal, durability=config.durability)
    started = False
    try:
        # Engines take as long to start as we do: they wait for the connection file.
        if is_new:
            keeper.scale(config.group, config.engines, config.slots)
        machine, config = _rebuild(config, journal, clock)
        loop = _open(config, where, machine, journal, keeper, poller, clock)
        # Some of the last master's may live; only what is missing is started.
        loop.scale(config.group, config.engines, config.slots)
        for wanted in machine.state.groups.values():
            if wanted.group != config.group:
                keeper.scale(wanted.group, wanted.engines, wanted.slots)
        started = True
        _serve(config, loop, poller)
    finally:
        if not started:
            keeper.stop_all(0.0)
        journal.close()
    _leave(where, loop)
    return 0


def _rebuild(config: MasterConfig, journal: Journal, clock: Clock) -> tuple[Machine, MasterConfig]:
    machine = Machine(
        Limits(
            max_pending=config.max_pending,
            retention_s=config.retention_s,
            retention_tasks=config.retention_tasks,
            retention_bytes=config.retention_bytes,
        )
    )
    count = rebuild.replay(journal, machine)
    epoch = journal.begin_epoch()
    clock.not_before(rebuild.latest(journal, machine))
    now = clock.now
    journal.commit(machine.begin(epoch, now), epoch, now)
    log.info("epoch %d, %d records replayed", epoch, count)
    return machine, _as_before(config, machine.state.groups)


def _as_before(config: MasterConfig, groups: dict[str, GroupWanted]) -> MasterConfig:
    """Return the configuration with what nobody has chosen as the last master had it."""
    group = config.group
    if "group" in config.unsaid and group not in groups:
        group = next(iter(groups), group)
    last = groups.get(group)
    if last is None:
        return config
    known = {"engines": last.engines, "slots": last.slots, "group": group}
    changes = {name: known[name] for name in config.unsaid}
    return msgspec.structs.replace(config, **changes, unsaid=())


def _open(
    config: MasterConfig,
    where: ClusterDir,
    machine: Machine,
    journal: Journal,
    keeper: Keeper,
    poller: select.poll,
    clock: Clock,
) -> Loop:
    epoch = machine.state.epoch
    address = f"ipc://{where.socket_path(epoch)}"
    connection = Connection(
        name=config.name,
        epoch=epoch,
        address=address,
        key=new_key(),
        pid=os.getpid(),
        host=socket.gethostname(),
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        version=nbcluster.__version__,
        directory=str(where.path),
        run=str(where.run),
        blobs=str(where.blobs),
        persist=config.persist,
        journal=config.journal_elsewhere,
    )
    for engine in machine.state.engines.values():
        if engine.host == connection.host:
            keeper.adopt(engine.id, engine.pid, engine.groups[0] if engine.groups else "")
    _sweep(where, machine, keeper)
    router = Router(address)
    loop = Loop(config, connection, machine, journal, router, keeper, poller, clock)
    for engine in machine.state.engines.values():
        if engine.host == connection.host and not keeper.is_watched(engine.id):
            loop.engine_is_gone(engine.id)
    note_journal(where, connection.journal)
    write_connection(where.connection_file, connection)
    return loop


def _sweep(where: ClusterDir, machine: Machine, keeper: Keeper) -> None:
    """Remove what a dead predecessor left; engines that wait for us still use their pages."""
    known = any(keeper.is_watched(engine) for engine in machine.state.engines)
    if known or _engines_wait(where):
        where.sweep_sockets(machine.state.epoch)
        return
    where.sweep(keep_blobs=rebuild.blobs_of(machine))


def _engines_wait(where: ClusterDir) -> bool:
    """Return whether engines were started before any master: they have pages already."""
    if not any(where.run.glob("*.page")):
        return False
    import psutil  # 20 ms, and hardly ever needed

    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if str(where.connection_file) in command and "nbcluster.engine" in command:
            return True
    return False


def _serve(config: MasterConfig, loop: Loop, poller: select.poll) -> None:
    # What is there now stays for ever, and nearly all that comes is in no cycle: the collector
    # need not look at hundreds of thousands of tasks again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
    others: dict[int, Callable[[], None]] = {}
    wakeup_read, wakeup_write = wakeup_pipe()
    signal.set_wakeup_fd(wakeup_write)

    def on_signal() -> None:
        for number in os.read(wakeup_read, 64):
            loop.interrupt(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # the wake-up descriptor tells it to the loop
    others[wakeup_read] = on_signal
    if config.owner_fd >= 0:
        others[config.owner_fd] = lambda: loop.stop("its owner has gone")
        try:
            owner = watch(config.owner_pid)
        except OSError:
            log.info("the owner has gone already")
        else:
            others[owner] = others[config.owner_fd]
    for fd in others:
        poller.register(fd, select.POLLIN)
    loop.sessions.attend(poller, others, loop.sender.post)
    try:
        loop.serve(others)
    except FencedError as error:
        loop.fenced(error)
    except JournalError as error:
        gone = not os.path.exists(config.directory)
        why = f"its directory {config.directory} was removed" if gone else str(error)
        loop.stop(why, in_order=False)
        loop.close()  # what clients are told must leave
        raise
    finally:
        signal.set_wakeup_fd(-1)


def _leave(where: ClusterDir, loop: Loop) -> None:
    loop.close()
    needed: set[str] = set()
    if loop.keeps_journal:
        needed = rebuild.blobs_of(loop.machine, to_go_on=not loop.keeps_name)
    if loop.keeps_name or needed:
        where.connection_file.unlink(missing_ok=True)
        where.sweep(keep_blobs=needed)
    else:
        where.remove()


if __name__ == "__main__":
    sys.exit(main(sys.argv))
