"""What happens to the cluster of the simulation, and how often."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from nbcluster.core import events as e
from nbcluster.core.model import Definition
from nbcluster.options import Backoff
from tests.simulation.world import GROUPS, World
from tests.unit.core.story import CLIENT


def submit(world: World) -> None:
    rng = world.rng
    for _ in range(rng.choice([1, 1, 3, 8])):
        name = f"t{len(world.mine)}"
        pins = [*world.engines, *(x.id for x in world.executors())]
        wish: dict[str, Any] = {
            "group": rng.choice(GROUPS),
            "fn": rng.choice("fg"),
            "retries": rng.choice([0, 1, 2]),
            "backoff": Backoff(rng.choice([0.0, 0.5, 4.0])),
            "max_crashes": rng.choice([1, 2, 3]),
            "timeout": rng.choice([None, None, 2.0]),
            "expires": rng.choice([None, None, None, 6.0]),
            "priority": rng.choice([0, 0, 0, 2]),
            "at_most_once": rng.random() < 0.15,
            "wait": rng.random() > 0.05,
            "load": rng.choice([0, 1, 1, 3]),
            "pin": rng.choice(pins) if pins and rng.random() < 0.05 else "",
            "key": rng.choice([*[""] * 20, "k1", "k2"]),
        }
        known = list(world.machine.state.tasks)[-8:]
        if known and rng.random() < 0.15:
            wish["after"] = tuple(rng.choices(known, k=rng.choice([1, 2])))
        world.mine[name] = ""
        world.wishes[name] = wish
        if wish["at_most_once"]:
            world.once.add(name)


def work(world: World) -> None:
    for executor in world.executors():
        executor.receive()
        for _ in range(world.rng.choice([1, 3])):
            world.begin(executor)
            if executor.current is None:
                continue
            chance = world.rng.random()
            if chance < 0.08:
                world.engines[executor.id.partition("/")[0]].bury(executor, expected=False)
                break
            if chance < 0.8:
                executor.end(world.rng, world.now)


def hold(world: World) -> None:
    for executor in world.executors():
        if world.rng.random() < 0.5:
            executor.receive()
            world.begin(executor)


def crash(world: World) -> None:
    engine = world.rng.choice(list(world.engines.values()))
    for executor in list(engine.executors.values()):
        if executor.current is not None or world.rng.random() < 0.3:
            engine.bury(executor, expected=False)


def kill_engine(world: World) -> None:
    name = world.rng.choice(list(world.engines))
    engine = world.engines.pop(name)
    begun = {x.id: x.current.token if x.current else 0 for x in engine.executors.values()}
    told: dict[str, int] = begun if world.rng.random() < 0.7 else {}
    world.asks.append(e.EngineDied(name, "killed", told))
    world.add_engine()


def fall_silent(world: World) -> None:
    engine = world.rng.choice(list(world.engines.values()))
    engine.silent = not engine.silent


def reconnect(world: World) -> None:
    engine = world.rng.choice(list(world.engines.values()))
    engine.regreet()
    for executor in engine.executors.values():
        if world.rng.random() < 0.5:
            executor.regreet()


def send_again(world: World) -> None:
    for executor in world.executors():
        if not executor.greeting:
            executor.unsent = list(executor.unacked)


def cancel(world: World) -> None:
    names = list(world.machine.state.tasks)
    if names:
        world.asks.append(e.CancelAsked(world.rng.choices(names[-12:], k=2)))


def redrive(world: World) -> None:
    names = [n for n in world.machine.state.tasks if n not in world.once]
    if names:
        world.asks.append(e.RedriveAsked(world.rng.choices(names, k=2), CLIENT))


def order(world: World) -> None:
    engine = world.rng.choice(list(world.engines))
    events: list[e.Rare] = [
        e.DrainAsked(engine),
        e.SlotsAsked(engine, world.rng.choice([0, 1, 2, 3])),
        e.RestartAsked(),
        e.SetupAsked(
            Definition("init", "init", b""), b"", names=world.rng.choice([(), ("x",), ("x", "y")])
        ),
    ]
    world.asks.append(world.rng.choices(events, [1, 4, 1, 1])[0])
    if len(world.engines) < 3:
        world.add_engine()


def fail_over(world: World) -> None:
    world.turn(world.rng.choice(["before", "after"]))


def moment(world: World) -> None:
    world.advance(world.rng.choice([0.005, 0.03, 0.3]))


def while_passes(world: World) -> None:
    world.advance(world.rng.choice([1.0, 3.0, 10.0]))


def sleep(world: World) -> None:
    """The whole machine sleeps for a while, and the master is the first to wake."""
    world.now += world.rng.choice([13.0, 30.0, 1e5])
    world.awake_at = world.now
    world.turn()


ACTS: Final[dict[Callable[[World], None], int]] = {
    submit: 14,
    work: 30,
    hold: 12,
    crash: 7,
    kill_engine: 2,
    fall_silent: 1,
    reconnect: 2,
    send_again: 4,
    cancel: 4,
    redrive: 3,
    order: 2,
    fail_over: 3,
    moment: 10,
    while_passes: 5,
    sleep: 1,
}


def live(seed: int, steps: int = 90) -> World:
    """Have a cluster live through so many misfortunes, and then in peace until all is done."""
    world = World(seed)
    acts, weights = list(ACTS), list(ACTS.values())
    for _ in range(steps):
        if not world.engines:
            world.add_engine()
        world.rng.choices(acts, weights)[0](world)
        world.tend()
        world.turn()
    world.heal()
    return world
