"""What a checkpoint keeps beside the tasks, when the log that told it is gone."""

from __future__ import annotations

from nbcluster.core import events as e
from nbcluster.core.machine import Machine
from nbcluster.core.model import Definition
from nbcluster.master.rebuild import Replay, header_of
from tests.unit.core.story import Story


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
