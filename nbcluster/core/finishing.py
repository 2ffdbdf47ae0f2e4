"""Decides what an attempt's end means: success, another try, a dead letter, or nothing at all."""

from __future__ import annotations

from collections.abc import Iterator

from nbcluster.core import records as r
from nbcluster.core.backoff import backoff_s, luck_of
from nbcluster.core.events import ExecutorEnded, Step, ended, moved
from nbcluster.core.memo import Memo, Timer
from nbcluster.core.model import (
    TERMINAL,
    Cause,
    Engine,
    ErrorInfo,
    Executor,
    Outcome,
    State,
    Task,
    Verdict,
)
from nbcluster.core.state import ClusterState
from nbcluster.core.submitting import dependency_failure, no_attempt_failure, tell_ended
from nbcluster.errors import (
    InitializerError,
    MissingModuleError,
    TaskCrashedError,
    TaskLostError,
    TaskTimeoutError,
    UndecodableError,
    UnknownIdError,
    crash_text,
)

VALUE = int(Verdict.VALUE)
#: Executors in a row that may die in their setups before that is taken to be the setups' fault.
SETUP_DEATHS = 3


def decide_outcomes(
    state: ClusterState,
    memo: Memo,
    outcomes: list[tuple[str, list[Outcome]]],
    now: float,
    step: Step,
) -> Iterator[r.Record]:
    """Take in results. What belongs to a lease that counts no more is only counted."""
    tasks, watchers, dependents = state.tasks, memo.watchers, state.dependents
    for name, results in outcomes:
        # One that was written off stays so: what it still tells is of leases that are lost.
        executor = state.executors.get(name)
        task: Task | None = None
        for outcome in results:
            task = tasks.get(outcome.task)
            # Late, doubled, or of an executor already written off: somebody else may run the
            # task by now, and counting this result would end it twice.
            if task is None or task.token != outcome.token or task.state in TERMINAL:
                _drop_stale(state, executor, outcome, task, step)
            elif outcome.verdict == VALUE:
                memo.learn(task.template.fn, outcome.duration_s)
                if task.blobs:
                    step.garbage.extend(task.blobs)
                yield r.Succeeded(
                    outcome.task,
                    outcome.token,
                    _clamp(outcome.started_at, task, now),
                    outcome.payload,
                    outcome.blobs,
                    outcome.stdout,
                    outcome.stderr,
                    task.state is State.RUNNING,
                )
                if outcome.token in memo.timed_out:
                    del memo.timed_out[outcome.token]
                if outcome.task in watchers or outcome.task in dependents:
                    yield from settle(state, memo, task, now, step)
                else:
                    step.news_for(task.client).ended.append(ended(task))
            else:
                memo.learn(task.template.fn, outcome.duration_s)
                yield from _decide_failure(state, memo, task, outcome, now, step)
        if executor is not None:
            executor.touched_at = now
            executor.stalled = False
            held = len(executor.leases)
            pace_s = memo.pace_s.get(task.template.fn, 0.0) if held and task else 0.0
            executor.cost_s = held * pace_s


def _clamp(started_at: float, task: Task, now: float) -> float:
    """Keep a foreign clock between submission and now: the master's clock stamps all times."""
    if task.state is State.RUNNING and not task.template.options.at_most_once:
        now = task.started_at  # told while it ran: since then the machine may have slept
    return min(max(started_at, task.submitted_at), now)


def _drop_stale(
    state: ClusterState,
    executor: Executor | None,
    outcome: Outcome,
    task: Task | None,
    step: Step,
) -> None:
    """Count a result that counts no more; the executor is free of it all the same."""
    lease = executor.leases.pop(outcome.token, None) if executor is not None else None
    if lease is not None and executor is not None and executor.engine in state.engines:
        state.engines[executor.engine].load -= lease.template.options.load
    is_own = task is not None and task.token == outcome.token
    if is_own and lease is None and task is not None and task.state is not State.CANCELLED:
        return  # sent again because our acknowledgement got lost: it was taken in before
    if not is_own:
        step.stale.append((outcome.task, outcome.token))
    step.garbage.extend(outcome.blobs)


def settle(
    state: ClusterState, memo: Memo, task: Task, now: float, step: Step
) -> Iterator[r.Record]:
    """Tell the end of ``task``, and let those that waited for it go on, or fail with it."""
    tell_ended(memo, task, step)
    over = [task]
    while over:
        first = over.pop()
        for name in state.dependents.pop(first.id, ()):
            dependent = state.tasks.get(name)
            if dependent is None or dependent.state in TERMINAL:
                continue
            if first.state is State.SUCCEEDED:
                yield r.DependencyMet(name, first.id)
            else:
                yield dependency_failure(dependent, first.id)
                tell_ended(memo, dependent, step)
                over.append(dependent)


def _decide_failure(
    state: ClusterState, memo: Memo, task: Task, outcome: Outcome, now: float, step: Step
) -> Iterator[r.Record]:
    verdict = outcome.verdict
    timed_out = memo.timed_out.pop(outcome.token, None) is not None
    options = task.template.options
    if verdict == Verdict.INTERRUPTED and not timed_out and options.timeout is None:
        # A kill order of a master that is gone, for a reason that is gone with it.
        if options.at_most_once:
            yield from decide_lost(state, memo, task, "attempt", now, step)
        else:
            began_at = _clamp(outcome.started_at, task, now)
            yield from give_back(memo, task, "given-back", step, began_at)
        return
    if verdict == Verdict.UNKNOWN_FUNCTION:
        step.unknowing.add(task.executor)
        yield from give_back(memo, task, "given-back", step)
        return
    started_at = _clamp(outcome.started_at, task, now)
    if timed_out or verdict == Verdict.INTERRUPTED:
        yield from decide_timeout(state, memo, task, started_at, outcome, now, step)
        return
    if verdict == Verdict.EXCEPTION and outcome.retryable and _may_retry(task):
        yield from _decide_retry(memo, task, outcome, started_at, "exception", now, step)
        return
    cause = {
        Verdict.EXCEPTION: Cause.EXCEPTION,
        Verdict.PERMANENT: Cause.PERMANENT,
    }.get(Verdict(verdict), Cause.UNDECODABLE)
    code, args = "", ()
    if cause is Cause.UNDECODABLE:
        unread = _undecodable(task, outcome.error)
        code, args = type(unread).__name__, unread.args
    step.garbage.extend(() if cause is not Cause.UNDECODABLE else outcome.blobs)
    yield r.Failed(
        task.id,
        outcome.token,
        started_at,
        cause,
        outcome.payload,
        outcome.blobs,
        code,
        args,
        outcome.error,
        outcome.stdout,
        outcome.stderr,
        task.state is State.RUNNING,
    )
    yield from settle(state, memo, task, now, step)


def _undecodable(task: Task, error: ErrorInfo | None) -> UndecodableError:
    is_import = error is not None and error.type in ("ImportError", "ModuleNotFoundError")
    cls = MissingModuleError if is_import else UndecodableError
    return cls(task.id, f"ended, but {error.message if error else 'no more is known'}")


def _may_retry(task: Task) -> bool:
    return task.retries < task.template.options.retries and not task.template.options.at_most_once


def _decide_retry(
    memo: Memo,
    task: Task,
    outcome: Outcome | None,
    started_at: float,
    why: str,
    now: float,
    step: Step,
) -> Iterator[r.Record]:
    failures = task.retries + 1
    wait = backoff_s(task.template.options.backoff, failures, luck_of(task.id, failures))
    error, stdout, stderr = None, b"", b""
    if outcome is not None:
        error, stdout, stderr = outcome.error, outcome.stdout, outcome.stderr
        if outcome.retry_after is not None:
            wait = max(0.0, outcome.retry_after)
        step.garbage.extend(outcome.blobs)  # of an exception that nobody will see
    begun = task.state is State.RUNNING
    yield r.Retrying(task.id, task.token, started_at, why, now + wait, error, stdout, stderr, begun)
    memo.at(task.due, Timer.WAKE, task.id)
    tell_moved(memo, task, step)


def tell_moved(memo: Memo, task: Task, step: Step, reason: str = "") -> None:
    """Put a change of ``task`` into the news of all who want to know."""
    news = moved(task, reason)
    for client in memo.audience(task):
        step.news_for(client).moved.append(news)


def give_back(
    memo: Memo, task: Task, why: str, step: Step, began_at: float = 0.0
) -> Iterator[r.Record]:
    """End a lease without a charge; ``began_at``: when its attempt is known to have begun."""
    ran = task.state is State.RUNNING
    if ran and not task.template.options.at_most_once:  # those count as running when they are sent
        began_at = task.started_at
    memo.timed_out.pop(task.token, None)
    yield r.Released(task.id, task.token, why, ran, began_at)
    if ran:
        tell_moved(memo, task, step)


def decide_timeout(
    state: ClusterState,
    memo: Memo,
    task: Task,
    started_at: float,
    outcome: Outcome | None,
    now: float,
    step: Step,
) -> Iterator[r.Record]:
    """An attempt was stopped for its ``timeout=``: it counts as one that failed."""
    limit = task.template.options.timeout
    if _may_retry(task):
        yield from _decide_retry(memo, task, outcome, started_at, "timeout", now, step)
        return
    attempts = task.attempts + (task.state is State.PENDING)
    message = f"ran for longer than its timeout of {limit:g} s (attempt {attempts})."
    yield r.Failed(
        task.id,
        task.token,
        started_at,
        Cause.TIMEOUT,
        b"",
        (),
        "TaskTimeoutError",
        TaskTimeoutError(task.id, message).args,
        outcome.error if outcome else None,
        outcome.stdout if outcome else b"",
        outcome.stderr if outcome else b"",
        task.state is State.RUNNING,
    )
    yield from settle(state, memo, task, now, step)


# --------------------------------------------------------------------------- crashes


def decide_executor_end(
    state: ClusterState, memo: Memo, event: ExecutorEnded, now: float, step: Step
) -> Iterator[r.Record]:
    """An executor is gone: what it was at is charged, what it only held is not."""
    executor = state.executors.pop(event.executor, None)
    if executor is None:
        return
    engine = state.engines.get(executor.engine)
    if engine is not None:
        engine.executors.pop(executor.id, None)
    # Newest first: each goes to the front of its queue, so that the oldest comes out first.
    for token, task in reversed(list(executor.leases.items())):
        if task.token != token or task.state in TERMINAL:
            memo.timed_out.pop(token, None)
            continue  # cancelled meanwhile: the lease goes with the executor
        if token == event.token and not event.expected:
            yield from _decide_crash(state, memo, task, event, now, step)
        elif token == event.token and token in memo.timed_out:
            yield from decide_timeout(state, memo, task, task.started_at or now, None, now, step)
        elif task.template.options.at_most_once:
            yield from decide_lost(state, memo, task, "executor", now, step)
        else:
            why = "restart" if event.expected else "revoked"
            yield from give_back(memo, task, why, step, now if token == event.token else 0.0)
        memo.timed_out.pop(token, None)
    if engine is not None:
        engine.load = load_of(engine)
    yield from decide_pins(state, memo, executor.id, now, step)
    latest = state.setups[-1].version if state.setups else 0
    if 0 <= executor.setup < latest and executor.pid and not event.expected:
        yield from _decide_setup_death(state, memo, event, now, step)


def _decide_setup_death(
    state: ClusterState, memo: Memo, event: ExecutorEnded, now: float, step: Step
) -> Iterator[r.Record]:
    """Setups that kill their executors again and again can run nowhere."""
    memo.setup_deaths += 1
    if memo.setup_deaths >= SETUP_DEATHS and not any(x.ready for x in state.executors.values()):
        tail = event.stderr.decode("utf-8", "replace")
        error = f"it ended its executor {memo.setup_deaths} times, the last time by {event.signal}"
        yield from decide_broken(state, memo, f"{error}\n{tail}".strip(), now, step)


def decide_broken(
    state: ClusterState, memo: Memo, error: str, now: float, step: Step
) -> Iterator[r.Record]:
    """No executor can be set up: nothing can run, and everybody must know."""
    memo.broken = error
    for task in [t for t in state.tasks.values() if t.state not in TERMINAL and not t.after]:
        if task.state in TERMINAL:
            continue  # it fell with one before it
        yield no_attempt_failure(task, Cause.PERMANENT, InitializerError(error))
        yield from settle(state, memo, task, now, step)


def decide_pins(
    state: ClusterState, memo: Memo, pin: str, now: float, step: Step
) -> Iterator[r.Record]:
    """What waits for one engine or executor that is gone cannot run anywhere else."""
    queue = state.pins.get(pin)
    while queue:
        task = queue.peek(now)
        if task is None:
            break
        yield no_attempt_failure(task, Cause.LOST, UnknownIdError("engine", pin, "It is gone."))
        yield from settle(state, memo, task, now, step)
    state.pins.pop(pin, None)


def load_of(engine: Engine) -> int:
    """Return the score of an engine: the loads of what its executors hold."""
    return sum(
        task.template.options.load for x in engine.executors.values() for task in x.leases.values()
    )


def decide_lost(
    state: ClusterState, memo: Memo, task: Task, what: str, now: float, step: Step
) -> Iterator[r.Record]:
    memo.timed_out.pop(task.token, None)
    message = (
        f"was to run at most once, and its {what} is gone; "
        "it may or may not have run to its end. Submit it again if it may run twice."
    )
    yield r.Failed(
        task.id,
        task.token,
        task.started_at or now,
        Cause.LOST,
        b"",
        (),
        "TaskLostError",
        TaskLostError(task.id, message).args,
        None,
        b"",
        b"",
        task.state is State.RUNNING,
    )
    yield from settle(state, memo, task, now, step)


def _decide_crash(
    state: ClusterState, memo: Memo, task: Task, event: ExecutorEnded, now: float, step: Step
) -> Iterator[r.Record]:
    options = task.template.options
    tail = event.stderr.decode("utf-8", "replace")
    error = ErrorInfo("Crash", crash_text(event.signal, event.peak_bytes), tail)
    started_at = task.started_at if task.state is State.RUNNING else now
    if options.at_most_once and event.signal == "engine lost":
        yield from decide_lost(state, memo, task, "engine", now, step)
    elif options.at_most_once or task.crashes + 1 >= options.max_crashes:
        own = TaskCrashedError(
            *(task.id, task.crashes + 1, event.signal, event.peak_bytes, tail[-2000:]),
            int(options.at_most_once),
        )
        yield r.Failed(
            task.id,
            task.token,
            started_at,
            Cause.CRASH,
            b"",
            (),
            "TaskCrashedError",
            own.args,
            error,
            event.stdout,
            event.stderr,
            task.state is State.RUNNING,
        )
        yield from settle(state, memo, task, now, step)
    else:
        begun = task.state is State.RUNNING
        yield r.Crashed(task.id, task.token, started_at, error, event.stdout, event.stderr, begun)
        tell_moved(memo, task, step)
