"""What a checkpoint keeps beside the tasks, when the log that told it is gone."""

from __future__ import annotations

import msgspec
import pytest

from nbcluster.clock import Clock
from nbcluster.core import events as e
from nbcluster.core import records as r
from nbcluster.core.machine import Machine
from nbcluster.core.model import Definition
from nbcluster.errors import JournalCorruptError
from nbcluster.journal import Header, MemoryDisk, MemoryJournal
from nbcluster.master.__main__ import _rebuild
from nbcluster.master.config import MasterConfig
from nbcluster.master.rebuild import Known, Replay, header_of
from tests.unit.core.story import Story, only


def test_setups_groups_and_engines_are_in_the_header_of_a_checkpoint() -> None:
    story = Story()
    story.engine()
    story.submit("t")
    story.tell(e.SetupAsked(Definition("push", "push", b"code"), b"x", names=("x",)))
    story.tell(e.ScaleAsked("gpu", 3, 2))
    machine = Machine()

    Replay(machine).restore_header(header_of(story.machine))

    assert machine.state.setups == story.state.setups
    assert machine.state.groups == story.state.groups
    assert machine.state.engines.keys() == story.state.engines.keys()
    assert (machine.state.epoch, machine.state.submitted) == (1, 1)


def test_the_payloads_of_setups_are_parts_of_a_header_and_in_the_first_format_in_it() -> None:
    story = Story()
    story.tell(e.SetupAsked(Definition("push", "push", b"code"), b"payload", names=("x",)))
    header = header_of(story.machine)
    old = msgspec.msgpack.encode(Known(1, 0, story.state.setups, []))
    machine = Machine()

    Replay(machine).restore_header(Header(old))

    assert machine.state.setups == story.state.setups
    assert header.parts == {1: b"payload"}
    assert b"payload" not in header.main
    with pytest.raises(JournalCorruptError, match="payload of setup 1 is missing"):
        Replay(Machine()).restore_header(Header(header.main))


@pytest.mark.parametrize("is_known", [False, True])
def test_how_many_engines_there_were_is_said_of_a_journal_that_knows_it(is_known: bool) -> None:
    disk = MemoryDisk()
    story, journal = Story(), MemoryJournal(disk)
    story.engine()
    if is_known:
        story.tell(e.ScaleAsked("default", 3, 2))
    for data, at in story.journal:
        journal.commit(msgspec.msgpack.decode(data, type=list[r.Record]), 1, at)
    config = MasterConfig(
        name="one", directory="", journal="", own_journal=True, engines=4, unsaid=("engines",)
    )

    _, config = _rebuild(config, MemoryJournal(disk), Clock())

    said = (3, ()) if is_known else (4, ("engines",))
    assert (config.engines, config.unsaid) == said
    disk.close()


@pytest.mark.parametrize("is_log_gone", [False, True])
def test_a_master_whose_clock_is_behind_the_journal_goes_on_from_its_last_time(
    is_log_gone: bool,
) -> None:
    disk = MemoryDisk()
    story, journal = Story(), MemoryJournal(disk)
    story.engine()
    story.finish(only(story.submit("t")))
    last = story.now
    if not is_log_gone:
        last = story.now = story.now + 5
        story.tell(e.ScaleAsked("gpu", 3, 2))
    for data, at in story.journal:
        journal.commit(msgspec.msgpack.decode(data, type=list[r.Record]), 1, at)
    if is_log_gone:
        journal.replay(Replay(Machine()))
        journal.compact(story.state.tasks.get, lambda: header_of(story.machine))
    behind = Clock(lambda: story.now - 500, lambda: 0.0)
    config = MasterConfig(name="one", directory="", journal="", own_journal=True, engines=0)
    journal = MemoryJournal(disk)

    _rebuild(config, journal, behind)

    assert journal.turns(0, 100)[-1].at == last
    assert behind.read() == last
    disk.close()
