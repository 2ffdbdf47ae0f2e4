"""A master in this thread, turn by turn: its loop, journal and socket are real, its peers too."""

from __future__ import annotations

import logging
import os
import select
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
import zmq

from nbcluster.clock import Clock
from nbcluster.core import events as e
from nbcluster.core.machine import Machine
from nbcluster.core.memo import Timer
from nbcluster.core.model import Definition, Ended, Moved, NewTask, Outcome, State, Task, Template
from nbcluster.journal import MemoryJournal
from nbcluster.master import loop, unread
from nbcluster.master.config import MasterConfig
from nbcluster.master.keeper import Keeper
from nbcluster.master.loop import LONGEST_WAIT_MS, Loop
from nbcluster.options import TaskOptions
from nbcluster.transport.connection import Connection
from nbcluster.transport.sockets import HIGH_WATER_MARK, Dealer, Router
from nbcluster.wire import codec
from nbcluster.wire import messages as m
from nbcluster.wire.window import WINDOW_COST, Taken
from tests.helpers import eventually

KEY: Final = "key"
QUIET_MS: Final = 20
CLIENT: Final = "c1"


class Master:
    """One master; `turn` is one turn of its loop."""

    def __init__(self, directory: Path) -> None:
        (directory / "blobs").mkdir()
        self.address = f"ipc://{directory}/m"
        self.connection = Connection(
            name="one",
            epoch=1,
            address=self.address,
            key=KEY,
            pid=os.getpid(),
            host="here",
            python="3.11",
            version="1",
            directory=str(directory),
            run=str(directory),
            blobs=str(directory / "blobs"),
            persist=False,
        )
        config = MasterConfig(
            name="one", directory=str(directory), journal="", own_journal=True, engines=0
        )
        poller = select.poll()
        self.set_by_s = 0.0  #: by how much somebody has set the wall clock
        clock = Clock(lambda: time.time() + self.set_by_s)
        keeper = Keeper(directory / "connection.json", None, poller, directory, config, clock)
        self.machine = Machine()
        self.journal = MemoryJournal()
        self.journal.replay(_Nothing())
        epoch = self.journal.begin_epoch()
        self.journal.commit(self.machine.begin(epoch, 1.0), epoch, 1.0)
        router = Router(self.address)
        self.loop = Loop(
            config, self.connection, self.machine, self.journal, router, keeper, poller, clock
        )

    def blob(self, name: str) -> Path:
        return Path(self.connection.blobs) / name

    def until(self, condition: Callable[[], Any]) -> Any:
        """Make turns until ``condition()``; return what it returned."""

        def after_a_turn() -> Any:
            self.loop.turn()
            return condition()

        return eventually(after_a_turn)

    def fill_disk(self) -> None:
        """Have no commit succeed any more; `make_room` ends that."""
        for _ in range(10_000):
            self.journal.fail("full")

    def make_room(self) -> None:
        self.journal._failures.clear()


class _Nothing:
    """Takes in the journal of a new cluster, which is empty."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


@pytest.fixture
def master() -> Iterator[Master]:
    """Return a master without engines."""
    directory = Path(tempfile.mkdtemp(prefix="nbl"))
    master = Master(directory)
    yield master
    master.loop.close()
    master.journal.disk.close()
    shutil.rmtree(directory)


class Peer:
    """Says what it likes to the master, and keeps what it hears."""

    def __init__(self, master: Master) -> None:
        self._dealer = Dealer(master.address)
        self._master = master

    def say(self, *messages: Any) -> None:
        for message in messages:
            self._dealer.send(codec.encode(message))

    def hear(self, kind: type, read: Callable[[bytes], Any] = codec.to_client) -> Any:
        """Return the next message of that kind."""

        def heard() -> Any:
            frame = self._dealer.receive()
            message = None if frame is None else read(frame)
            return message if isinstance(message, kind) else None

        return self._master.until(heard)

    def greet(self) -> None:
        self.say(client_hello())
        self.hear(m.Welcome)

    def close(self) -> None:
        self._dealer.close()


@pytest.fixture
def peer(master: Master) -> Iterator[Peer]:
    """Return a peer that has not greeted."""
    peer = Peer(master)
    yield peer
    peer.close()


class Deaf:
    """A peer that greets, and reads only when it is told to: as one that is stopped."""

    def __init__(self, master: Master, hello: m.Hello) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = 0
        self._socket.rcvhwm, self._socket.rcvbuf = 1, 4096
        self._socket.connect(master.address)
        self._socket.send(codec.encode(hello))
        self._taken = Taken()

    def read(self) -> list[bytes]:
        """Return what has come, and what follows it at once; tell that it was taken in."""
        frames = []
        while self._socket.poll(QUIET_MS):
            frames.append(self._socket.recv(zmq.NOBLOCK))
            taken = self._taken.take(frames[-1])
            if taken is not None:
                self._socket.send(codec.encode(m.Taken(taken)))
        return frames

    def updates(self) -> list[m.Updates]:
        """Return the news among what has come."""
        heard = [codec.to_client(frame) for frame in self.read()]
        return [x for x in heard if isinstance(x, m.Updates)]

    def close(self) -> None:
        self._socket.close()
        self._context.term()


@pytest.fixture
def deaf(master: Master) -> Iterator[Callable[[m.Hello], Deaf]]:
    """Return what makes peers that do not read."""
    made: list[Deaf] = []

    def make(hello: m.Hello) -> Deaf:
        made.append(Deaf(master, hello))
        return made[-1]

    yield make
    for each in made:
        each.close()


def client_hello() -> m.ClientHello:
    return m.ClientHello(KEY, CLIENT, "1", m.PROTOCOL, "3.11", os.getpid(), "elsewhere")


def engine_hello(slots: int = 0) -> m.EngineHello:
    return m.EngineHello(
        KEY, "e", "1", m.PROTOCOL, "3.11", os.getpid(), "elsewhere", ("default",), slots
    )


def submit(number: int, *tasks: NewTask, **options: Any) -> m.Submit:
    template = Template("f", TaskOptions(**options))
    return m.Submit(number, [Definition("f", "f", b"code")], [template], list(tasks))


def overwhelm(master: Master, name: str) -> bool:
    """Send until a message is not taken any more; return whether the peer kept its session."""
    session = master.until(lambda: master.loop.sessions.by_name.get(name))
    large = m.OutputNews([("t", 1, 1, 0, bytes(8_000))])  # few fit between the sockets
    news = large if session.role == "client" else m.SetSlots(0)
    for _ in range(10 * HIGH_WATER_MARK):
        if not master.loop.sender.send(session, news):
            break
    return master.loop.sessions.by_name.get(name) is session


# --------------------------------------------------------------------------- who does not read


def ends(*names: str, payload: bytes = b"") -> e.News:
    return e.News(
        [Ended(n, State.SUCCEEDED, "", 1, 0, 0, "e", 1.0, 1.0, 1.0, payload) for n in names]
    )


def test_a_client_that_was_stopped_keeps_its_session_and_is_told_all_then(
    master: Master, deaf: Callable[[m.Hello], Deaf], caplog: pytest.LogCaptureFixture
) -> None:
    client = deaf(client_hello())
    with caplog.at_level(logging.INFO):
        assert overwhelm(master, CLIENT)
        for name in ("t", "u"):
            master.loop.sender.send_news({CLIENT: ends(name)})
        master.loop.sender.send(master.loop.sessions.by_name[CLIENT], m.Reply(1, "answer"))
    heard: list[Any] = []

    def news() -> Any:
        heard.extend(codec.to_client(frame) for frame in client.read())
        return [x for x in heard if isinstance(x, m.Updates)]

    (told,) = master.until(news)

    assert [end.task for end in told.ended] == ["t", "u"]
    assert told.number == 1
    assert m.Reply(1, "answer") in heard
    assert len([line for line in caplog.messages if "does not read" in line]) == 1


def test_what_a_client_was_sent_and_has_not_read_is_bounded_in_bytes(
    master: Master, deaf: Callable[[m.Hello], Deaf]
) -> None:
    client = deaf(client_hello())
    session = master.until(lambda: master.loop.sessions.by_name.get(CLIENT))
    payload = bytes(1 << 20)
    for n in range(100):
        master.loop.sender.send_news({CLIENT: ends(str(n), payload=payload)})

    assert session.unread._sent <= WINDOW_COST + 2 * len(payload)
    told: list[str] = []

    def all_told() -> bool:
        told.extend(end.task for news in client.updates() for end in news.ended)
        return len(told) == 100

    assert master.until(all_told)
    assert told == [str(n) for n in range(100)]
    assert not session.unread.waits


def test_the_last_word_on_a_task_is_enough(master: Master, deaf: Callable[[m.Hello], Deaf]) -> None:
    client = deaf(client_hello())
    overwhelm(master, CLIENT)
    for state in (State.PENDING, State.RUNNING):
        moves = [Moved(name, state, "", 1, 0, 0, "e") for name in ("t", "u")]
        master.loop.sender.send_news({CLIENT: e.News(moved=moves)})
    master.loop.sender.send_news({CLIENT: ends("t")})

    (news,) = master.until(client.updates)

    assert [(x.task, x.state) for x in news.moved] == [("u", State.RUNNING)]
    assert [end.task for end in news.ended] == ["t"]
    assert master.loop.sessions.by_name[CLIENT].unread._kept_bytes == 0


def test_a_client_for_which_too_much_is_kept_sees_a_gap_and_what_it_cannot_ask_for(
    master: Master, deaf: Callable[[m.Hello], Deaf], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unread, "KEPT_BYTES", 10_000)
    client = deaf(client_hello())
    overwhelm(master, CLIENT)
    session = master.loop.sessions.by_name[CLIENT]
    refusal = ("r", "BusyError", (1, 1.0))
    master.loop.sender.send_news({CLIENT: ends("kept", payload=bytes(10_000))})
    master.loop.sender.send_news({CLIENT: ends("dropped")})
    master.loop.sender.send_news({CLIENT: e.News([], [], [("sent", "known")], [refusal], ["u"])})
    master.loop.sender.send(session, m.NotTaken(7, "JournalFullError", ("full",)))
    heard: list[Any] = []

    def last() -> bool:
        heard.extend(codec.to_client(frame) for frame in client.read())
        return isinstance(heard[-1], m.Updates)

    master.until(last)
    told = heard[-1]

    assert m.NotTaken(7, "JournalFullError", ("full",)) in heard
    assert [end.task for end in told.ended] == ["kept"]
    assert told.number == 2  # the client expects 1
    assert told.aliases == [("sent", "known")]
    assert told.refused == [refusal]
    assert told.undefined == ["u"]
    master.loop.sender.send_news({CLIENT: e.News(undefined=["v"])})
    (later,) = client.updates()
    assert (later.number, later.undefined) == (3, ["v"])  # nothing is told twice


def test_what_is_said_when_the_cluster_stops_reaches_a_client_that_is_behind(
    master: Master, deaf: Callable[[m.Hello], Deaf]
) -> None:
    client = deaf(client_hello())
    overwhelm(master, CLIENT)
    master.loop.sender.send_news({CLIENT: ends("t")})

    master.loop.sender.say_last(master.loop.sessions.by_name[CLIENT], m.Closing("stopped"))

    *_, news, last = [codec.to_client(frame) for frame in client.read()]
    assert isinstance(news, m.Updates)
    assert [end.task for end in news.ended] == ["t"]
    assert isinstance(last, m.Closing)


def test_an_answer_does_not_overtake_the_news_that_were_kept_before_it(
    master: Master, deaf: Callable[[m.Hello], Deaf]
) -> None:
    client = deaf(client_hello())
    overwhelm(master, CLIENT)
    session = master.loop.sessions.by_name[CLIENT]
    large = bytes(unread.PORTION_BYTES)
    for name in ("t", "u"):
        master.loop.sender.send_news({CLIENT: ends(name, payload=large)})
    master.loop.sender.send(session, m.Reply(1, "answer"))
    master.loop.sender.send_news({CLIENT: ends("v", payload=large)})
    heard: list[Any] = []

    def all_heard() -> bool:
        heard.extend(codec.to_client(frame) for frame in client.read())
        return any(isinstance(x, m.Updates) and x.ended[0].task == "v" for x in heard)

    master.until(all_heard)
    order = [x.ended[0].task if isinstance(x, m.Updates) else type(x).__name__ for x in heard]
    assert order[-4:] == ["t", "u", "Reply", "v"]
    assert not session.unread.waits
    assert session.unread._kept_bytes == 0


def test_what_is_told_to_a_client_that_reads_again_acknowledges_only_what_is_durable(
    master: Master, deaf: Callable[[m.Hello], Deaf]
) -> None:
    client = deaf(client_hello())
    overwhelm(master, CLIENT)
    session = master.loop.sessions.by_name[CLIENT]
    master.loop.sender.send_news({CLIENT: ends("old")})
    told = session.unread._sent
    master.fill_disk()
    client._socket.send(codec.encode(submit(7, NewTask("t", 0, b""))))
    master.until(lambda: master.loop.disk_is_full)
    client._socket.send(codec.encode(m.Taken(told)))
    (news,) = master.until(client.updates)
    assert (news.ended[0].task, news.acked) == ("old", 0)

    master.make_room()

    assert master.until(lambda: any(x.acked == 7 for x in client.updates()))


def test_a_client_that_greets_again_has_a_window_again(
    master: Master, deaf: Callable[[m.Hello], Deaf]
) -> None:
    client = deaf(client_hello())
    overwhelm(master, CLIENT)
    master.loop.sender.send_news({CLIENT: ends("t")})

    client._socket.send(codec.encode(client_hello()))
    session = master.loop.sessions.by_name[CLIENT]
    master.until(lambda: session.greeted == 2)

    assert not session.unread.waits


def test_the_results_of_one_turn_may_be_too_large_for_one_message(
    master: Master, peer: Peer
) -> None:
    peer.greet()
    payload = bytes(unread.PORTION_BYTES // 2)
    many = ends("0", "1", "2", "3", "4", payload=payload)
    many.undefined.append("u")

    master.loop.sender.send_news({CLIENT: many})

    news = [peer.hear(m.Updates) for _ in range(3)]
    assert [[end.task for end in x.ended] for x in news] == [["0", "1"], ["2", "3"], ["4"]]
    assert [x.number for x in news] == [1, 2, 3]
    assert [x.undefined for x in news] == [["u"], [], []]


def test_what_was_submitted_while_a_client_was_behind_is_acknowledged_after_it(
    master: Master, deaf: Callable[[m.Hello], Deaf]
) -> None:
    client = deaf(client_hello())
    overwhelm(master, CLIENT)
    client._socket.send(codec.encode(submit(7, NewTask("t", 0, b""))))
    master.until(lambda: "t" in master.machine.state.tasks)

    def acked() -> bool:
        heard = [codec.to_client(frame) for frame in client.read()]
        return any(isinstance(x, m.Updates) and x.acked == 7 for x in heard)

    assert master.until(acked)


def test_an_engine_that_does_not_read_loses_its_session_and_is_told_when_it_beats(
    master: Master, deaf: Callable[[m.Hello], Deaf]
) -> None:
    engine = deaf(engine_hello())

    assert not overwhelm(master, "e")
    engine.read()
    engine._socket.send(codec.encode(m.Beat([], [], 0)))

    def is_told() -> bool:
        heard = [codec.to_engine(frame) for frame in engine.read()]
        return any(isinstance(x, m.GreetAgain) for x in heard)

    assert master.until(is_told)
    assert master.loop.sessions.dropped == 0


# --------------------------------------------------------------------------- strangers


def test_what_a_forgotten_client_has_on_the_way_is_answered_once_and_costs_it_nothing(
    master: Master, peer: Peer
) -> None:
    peer.greet()
    master.loop.sessions.close(master.loop.sessions.by_name[CLIENT])

    peer.say(*(submit(i, NewTask(f"t{i}", 0, b"")) for i in range(50)))
    peer.hear(m.GreetAgain)
    peer.say(client_hello())

    def welcomed() -> Any:
        message = peer.hear(object)
        assert not isinstance(message, m.GreetAgain), "asked for each message"
        return isinstance(message, m.Welcome)

    assert eventually(welcomed)
    assert master.loop.sessions.dropped == 0
    assert not master.machine.state.tasks


def test_who_is_forgotten_twice_is_asked_to_greet_twice(master: Master, peer: Peer) -> None:
    for _ in range(2):
        peer.greet()
        master.loop.sessions.close(master.loop.sessions.by_name[CLIENT])

        peer.say(m.Watch(["t"]))

        assert peer.hear(m.GreetAgain)


def test_what_no_peer_says_is_malformed_also_of_a_stranger(master: Master, peer: Peer) -> None:
    peer.say(["nonsense"], m.Welcome(1, "", "", 0.0))

    master.until(lambda: master.loop.sessions.dropped == 2)


def test_executors_of_an_engine_that_was_given_up_greet_again_when_it_comes_back(
    master: Master, peer: Peer
) -> None:
    engine, executor = peer, Peer(master)
    master.loop.sessions.attend(select.poll(), {}, master.loop.sender.post)
    engine.say(engine_hello())
    engine.hear(m.Welcome, codec.to_engine)
    executor.say(m.ExecutorHello(KEY, "e/0.1", "1", m.PROTOCOL, "3.11", os.getpid()))
    executor.hear(m.Welcome, codec.to_executor)

    master.loop.sessions.close_engine("e")
    engine.say(engine_hello())

    assert executor.hear(m.GreetAgain, codec.to_executor)
    executor.close()


# --------------------------------------------------------------------------- times


def test_a_drain_is_not_cut_short_by_a_machine_that_slept(master: Master, peer: Peer) -> None:
    peer.say(engine_hello())
    peer.hear(m.Welcome, codec.to_engine)
    master.loop.stop_when_drained("drain", keep=False)
    assert 1_000 < (master.loop._wait_ms() or 0.0) < LONGEST_WAIT_MS

    master.set_by_s += 3_600
    master.loop.turn()
    master.loop._try_to_stop()

    assert not master.loop.stopped
    assert (master.loop._wait_ms() or 0.0) > 1_000


@pytest.mark.parametrize("years", [1, 1e6, float("inf")])
def test_what_is_due_in_years_is_looked_at_within_the_hour(master: Master, years: float) -> None:
    master.machine.memo.at(master.loop.now + years * 365 * 86_400.0, Timer.EXPIRE, "t")

    wait_ms = master.loop._wait_ms()

    assert wait_ms == LONGEST_WAIT_MS
    poller = select.poll()
    read, write = os.pipe()
    os.write(write, b"x")
    poller.register(read, select.POLLIN)
    assert poller.poll(wait_ms)  # it is a time that can be waited for
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("options", [{"expires": 40 * 86_400.0}, {"expires": 1e300}, {}])
def test_a_task_with_any_times_leaves_a_time_to_wait_for(
    master: Master, peer: Peer, options: dict[str, Any]
) -> None:
    peer.greet()
    peer.say(submit(1, NewTask("t", 0, b""), **options))
    master.until(lambda: "t" in master.machine.state.tasks)

    assert (master.loop._wait_ms() or 0.0) <= LONGEST_WAIT_MS


def test_a_long_log_is_cleaned_at_load_once_in_so_many_records(
    master: Master, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "LONG_LOG", 100)
    monkeypatch.setattr(loop, "LONG_LOG_PER_TASK", 0)
    monkeypatch.setattr(loop, "BUSY_GROWTH", 50)
    peer.greet()
    cleaned: list[int] = []

    for n in range(300):
        peer.say(submit(n + 1, NewTask(f"t{n}", 0, b"")))
        master.until(partial(master.machine.state.tasks.get, f"t{n}"))
        if master.loop._log_is_long():
            master.loop._clean(loop.BUSY_PORTION)
            cleaned.append(n)

    assert len(cleaned) >= 2
    assert all(later - sooner > 40 for sooner, later in pairwise(cleaned))


# --------------------------------------------------------------------------- full disk


@pytest.fixture
def waits(master: Master, peer: Peer) -> m.Submit:
    """Return a submission with a buffer, which waits for room on the disk."""
    peer.greet()
    master.blob("buffer").touch()
    waits = submit(1, NewTask("t", 0, b"", ("buffer",)))
    master.fill_disk()
    peer.say(waits)
    master.until(lambda: master.loop.disk_is_full)
    return waits


def test_a_submission_that_waits_for_room_may_be_sent_again_and_is_not_refused(
    master: Master, peer: Peer, waits: m.Submit
) -> None:
    peer.say(waits, submit(2, NewTask("u", 0, b"")))
    refusal = peer.hear(m.NotTaken)
    assert refusal.number == 2
    assert master.blob("buffer").exists()

    master.make_room()
    assert peer.hear(m.Updates).acked == 1
    assert list(master.machine.state.tasks) == ["t"]


def test_a_submission_that_waits_for_room_is_known_in_the_next_session_too(
    master: Master, peer: Peer, waits: m.Submit
) -> None:
    master.loop.sessions.close(master.loop.sessions.by_name[CLIENT])
    peer.greet()

    peer.say(waits, submit(2, NewTask("u", 0, b"")))

    assert peer.hear(m.NotTaken).number == 2
    assert master.blob("buffer").exists()


def test_the_answer_to_a_submission_that_waits_for_room_comes_when_there_is_some(
    master: Master, peer: Peer
) -> None:
    peer.greet()
    waits = submit(1, NewTask("t", 9, b""))  # it is refused, and its function must be on record
    master.fill_disk()
    peer.say(waits)
    master.until(lambda: master.loop.disk_is_full)

    peer.say(waits, submit(2, NewTask("u", 0, b"")))
    assert peer.hear(m.NotTaken).number == 2
    master.make_room()

    assert [code for _, code, _ in peer.hear(m.Updates).refused] == ["OptionError"]


def test_the_buffers_of_what_a_full_disk_refuses_are_removed(master: Master, peer: Peer) -> None:
    peer.greet()
    peer.say(submit(1, NewTask("t", 0, b"")))
    master.fill_disk()
    master.until(lambda: master.loop.disk_is_full)
    master.blob("buffer").touch()

    peer.say(submit(2, NewTask("u", 0, b"", ("buffer",))))

    assert peer.hear(m.NotTaken).number == 2
    assert not master.blob("buffer").exists()


# --------------------------------------------------------------------------- clocks that are set


HOUR_S: Final = 3600.0


@pytest.fixture
def leased(master: Master, peer: Peer) -> Iterator[tuple[Task, Peer, Peer]]:
    """Return a task that was sent to an executor, and that one's engine and itself."""
    engine, executor = Peer(master), Peer(master)
    engine.say(engine_hello(slots=1))
    engine.hear(m.Welcome, codec.to_engine)
    executor.say(m.ExecutorHello(KEY, "e/0.1", "1", m.PROTOCOL, "3.11", os.getpid()))
    executor.hear(m.Welcome, codec.to_executor)
    peer.greet()
    peer.say(submit(1, NewTask("t", 0, b"")))
    executor.hear(m.Runs, codec.to_executor)
    yield master.machine.state.tasks["t"], engine, executor
    engine.close()
    executor.close()


def test_what_is_due_soon_is_due_soon_after_the_clock_was_set_back(master: Master) -> None:
    master.loop.turn()
    before = master.loop.now
    master.machine.memo.at(before + 1, Timer.RETENTION)

    master.set_by_s = -HOUR_S
    wait_ms = master.loop._wait_ms()

    assert wait_ms is not None
    assert wait_ms <= 1001
    master.until(lambda: master.loop.now > before)


def test_the_core_is_told_by_how_much_the_clock_was_set_forward(master: Master) -> None:
    master.loop.turn()
    due = master.loop.now + 1
    master.machine.memo.at(due, Timer.TIMEOUT, "t")

    master.set_by_s = HOUR_S
    master.loop.turn()

    assert master.machine.memo.due() == pytest.approx(due + HOUR_S, abs=0.01)


@pytest.mark.parametrize("set_by_s", [-HOUR_S, 0.0])
def test_a_start_is_told_by_how_long_ago_it_was(
    master: Master, leased: tuple[Task, Peer, Peer], set_by_s: float
) -> None:
    task, engine, _ = leased
    master.set_by_s = set_by_s
    engine.say(m.Beat([("e/0.1", task.token, 0.0)], [], 0))

    master.until(lambda: task.state is State.RUNNING)

    assert task.started_at == master.loop.now > task.submitted_at


@pytest.mark.parametrize("set_by_s", [-HOUR_S, 0.0])
def test_times_of_results_are_moved_by_what_the_clock_was_set_back(
    master: Master, leased: tuple[Task, Peer, Peer], set_by_s: float
) -> None:
    task, _, executor = leased
    master.set_by_s = set_by_s
    at = time.time() + set_by_s
    executor.say(m.Finished(1, [Outcome("t", task.token, 0, at, 0.0, b"")]))

    master.until(lambda: task.state is State.SUCCEEDED)

    assert task.submitted_at < task.started_at < task.finished_at


# --------------------------------------------------------------------------- who comes and goes


def test_the_core_knows_which_clients_are_here(master: Master, peer: Peer) -> None:
    peer.greet()
    assert master.machine.memo.clients == {CLIENT}

    peer.say(m.Bye())

    master.until(lambda: not master.machine.memo.clients)


def test_a_client_whose_process_ends_is_not_here_any_more(master: Master, peer: Peer) -> None:
    peer.greet()

    master.loop.sessions._process_ended(master.loop.sessions.by_name[CLIENT])

    master.until(lambda: not master.machine.memo.clients)


# --------------------------------------------------------------------------- the journal's log


def test_at_load_the_log_does_not_grow_for_ever(
    master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("LONG_LOG", 100), ("BUSY_GROWTH", 6), ("BUSY_PORTION", 8)):
        monkeypatch.setattr(f"nbcluster.master.loop.{name}", value)
    master.journal._retain = 10
    loop = master.loop
    lengths: list[int] = []

    def ask_for_more() -> None:
        loop._batch.rare.append(e.ScaleAsked("gpu", len(lengths), 1))
        lengths.append(master.journal.log_records)
        loop.stopped = len(lengths) == 1_000

    always, other = os.pipe()
    os.close(other)
    loop._poller.register(always)
    loop.serve({always: ask_for_more})
    loop._poller.unregister(always)
    os.close(always)

    assert 100 <= max(lengths) < 120


# --------------------------------------------------------------------------- groups


def test_a_group_may_have_no_slots_and_keeps_what_it_was_given(master: Master, peer: Peer) -> None:
    peer.greet()

    def slots_after(op: str, **args: Any) -> int:
        peer.say(m.Ask(1, op, {"group": "z", **args}))
        peer.hear(m.Reply)
        return master.machine.state.groups["z"].slots

    assert slots_after("scale", count=0) == 1  # as the cluster was started
    assert slots_after("scale", count=0, slots=0) == 0
    assert slots_after("scale", count=0, slots=None) == 0
    assert slots_after("slots", slots=3) == 3
    assert slots_after("scale", count=0) == 3


# --------------------------------------------------------------------------- keys


def test_a_task_that_a_key_recognised_is_asked_for_by_the_id_it_was_submitted_with_too(
    master: Master, peer: Peer
) -> None:
    peer.greet()
    peer.say(submit(1, NewTask("first", 0, b"x", (), "", "k", (), b"d")))
    peer.say(submit(2, NewTask("again", 0, b"x", (), "", "k", (), b"d")))
    master.until(lambda: master.machine.memo.aliases)
    peer.say(m.Ask(1, "cancel", {"tasks": ["again"], "known": ["again"]}))
    peer.hear(m.Reply)

    def answer(op: str, **args: Any) -> Any:
        peer.say(m.Ask(1, op, args))
        reply = peer.hear(m.Reply)
        assert not reply.code, reply
        return reply.value

    assert answer("attempts", task="again")["after"] is None
    assert answer("why", task="again")["state"] == "cancelled"
    assert answer("find", task="again")["id"] == "first"
    assert answer("names", tasks=["again"]) == {"again": "f"}
    assert answer("redrive", tasks=["again", "never"]) == {"again": "first~1"}
