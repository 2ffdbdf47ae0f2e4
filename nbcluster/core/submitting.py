"""Decides what becomes of submissions: accept, refuse, recognise."""

from __future__ import annotations

from collections.abc import Iterator

from nbcluster.core import records as r
from nbcluster.core.events import News, Step, Submission, ended
from nbcluster.core.memo import Memo, Timer
from nbcluster.core.model import TERMINAL, Cause, EngineState, NewTask, State, Task, Template
from nbcluster.core.state import ClusterState
from nbcluster.errors import (
    BusyError,
    DependencyError,
    InitializerError,
    KeyReusedError,
    NoEngineError,
    UnknownIdError,
)

#: Seconds after which a client refused for want of room may try again.
RETRY_AFTER_S = 1.0
#: Recognised tasks whose own ids are known: ``after=`` has them until the client hears the other.
ALIASES = 10_000


def decide_submissions(
    state: ClusterState, memo: Memo, submissions: list[Submission], now: float, step: Step
) -> Iterator[r.Record]:
    """Accept new tasks; a repeated one is acknowledged and not run again."""
    is_restricted = bool(memo.limits.max_pending or memo.broken)
    for submission in submissions:
        yield from _learn_shared(state, memo, submission, now)
        numbers = [state.template_numbers[template] for template in submission.templates]
        defined = [_is_defined(state, template) for template in submission.templates]
        plain = [_is_plain(template) for template in submission.templates]
        client, news = submission.client, step.news_for(submission.client)
        for new in submission.tasks:
            if not 0 <= new.template < len(numbers):
                news.refused.append((new.id, "OptionError", (f"no template {new.template}",)))
                continue
            if new.id in state.tasks:
                _answer_repeated(state, new.id, news)
                continue
            if not defined[new.template]:  # it was on its way for longer than that is kept
                news.undefined.append(new.id)
                continue
            is_known = bool(new.key) and new.key in state.keys
            if is_restricted and not is_known and _is_refused(state, memo, new, news):
                step.garbage.extend(new.blobs)
                continue
            index, new.template = new.template, numbers[new.template]
            if plain[index] and not new.key and not new.after:
                yield r.Submitted(client, new)
            else:
                template = submission.templates[index]
                yield from _decide_special(state, memo, client, new, template, now, step)


def _learn_shared(
    state: ClusterState, memo: Memo, submission: Submission, now: float
) -> Iterator[r.Record]:
    """Take in the definitions and templates that the tasks of a submission name."""
    for definition in submission.definitions:
        if not state.defines(definition.hash):
            memo.sweep_bytes += len(definition.blob)
            yield r.Defined(definition)
    for template in submission.templates:
        memo.named_at[template.fn] = now
        if template not in state.template_numbers:
            yield r.TemplateKnown(state.template_count + 1, template)


def _is_refused(state: ClusterState, memo: Memo, new: NewTask, news: News) -> bool:
    """Refuse a task that cannot be run at all, or for which there is no room."""
    if memo.broken:
        refuse(news, new.id, InitializerError(memo.broken))
        return True
    if 0 < memo.limits.max_pending <= state.open_tasks:
        refuse(news, new.id, BusyError(memo.limits.max_pending, RETRY_AFTER_S))
        return True
    return False


def _is_defined(state: ClusterState, template: Template) -> bool:
    """Return whether all that such tasks need to run is there."""
    retry_on = template.options.retry_on
    return state.defines(template.fn) and (not retry_on or state.defines(retry_on))


def _is_plain(template: Template) -> bool:
    """Return whether nothing but the queue awaits such tasks."""
    options = template.options
    return options.expires is None and options.wait and not options.pin


def refuse(
    news: News, task: str, error: BusyError | KeyReusedError | UnknownIdError | InitializerError
) -> None:
    """Tell the client that a submission was not taken, and why."""
    news.refused.append((task, type(error).__name__, error.args))


def _answer_repeated(state: ClusterState, name: str, news: News) -> None:
    task = state.tasks[name]
    if task.state in TERMINAL:
        news.ended.append(ended(task))


def _decide_special(
    state: ClusterState,
    memo: Memo,
    client: str,
    new: NewTask,
    template: Template,
    now: float,
    step: Step,
) -> Iterator[r.Record]:
    """Accept a task with a key, dependencies, an expiry, a pin, or no wish to wait."""
    news = step.news_for(client)
    if new.key and new.key in state.keys:
        _recognise(state, memo, client, new, template, news)
        step.garbage.extend(new.blobs)  # those of the task that has the key count
        return
    if memo.aliases:
        new.after = tuple(memo.aliases.get(d, d) for d in new.after)
    missing = [d for d in new.after if d not in state.tasks]
    if missing:
        refuse(news, new.id, UnknownIdError("task", missing[0], "after= names it."))
        step.garbage.extend(new.blobs)
        return
    new.after = tuple(
        d for d in dict.fromkeys(new.after) if state.tasks[d].state is not State.SUCCEEDED
    )
    failed = next((d for d in new.after if state.tasks[d].state in TERMINAL), "")
    yield r.Submitted(client, new)
    task = state.tasks[new.id]
    if failed:
        yield dependency_failure(task, failed)
        tell_ended(memo, task, step)
    elif not template.options.wait and not can_run(state, task):
        group = template.options.group
        yield no_attempt_failure(task, Cause.EXPIRED, NoEngineError(group, "there is none"))
        tell_ended(memo, task, step)
    elif template.options.pin and not _pin_exists(state, template.options.pin):
        error = UnknownIdError("engine", template.options.pin, "It has left, or never was.")
        yield no_attempt_failure(task, Cause.LOST, error)
        tell_ended(memo, task, step)
    elif template.options.expires is not None:
        memo.at(now + template.options.expires, Timer.EXPIRE, task.id)


def _recognise(
    state: ClusterState, memo: Memo, client: str, new: NewTask, template: Template, news: News
) -> None:
    """A key that is known names the task that has it, if it is the same call."""
    task = state.tasks[state.keys[new.key]]
    if _is_other_call(task, new, template):
        refuse(news, new.id, KeyReusedError(new.key, task.id))
        return
    news.aliases.append((new.id, task.id))
    memo.aliases[new.id] = task.id
    if len(memo.aliases) > ALIASES:
        del memo.aliases[next(iter(memo.aliases))]
    if task.state in TERMINAL:
        news.ended.append(ended(task))
    else:
        memo.watchers.setdefault(task.id, set()).add(client)


def _is_other_call(task: Task, new: NewTask, template: Template) -> bool:
    if task.digest and new.digest:
        return task.digest != new.digest
    # From an older client. The payload may be gone; the function still tells a mix-up.
    return task.template.fn != template.fn or (bool(task.payload) and task.payload != new.payload)


def _pin_exists(state: ClusterState, pin: str) -> bool:
    return pin in state.engines or pin in state.executors


def can_run(state: ClusterState, task: Task) -> bool:
    """Return whether an engine is there that offers slots to the task's group."""
    options = task.template.options
    return any(
        options.group in engine.groups
        and engine.slots > 0
        and engine.state in (EngineState.ACTIVE, EngineState.STARTING)
        for engine in state.engines.values()
    )


def no_attempt_failure(
    task: Task, cause: Cause, error: NoEngineError | UnknownIdError | DependencyError | Exception
) -> r.Failed:
    """Return the record of a task that fails without an attempt, with an error of our own."""
    code = type(error).__name__
    return r.Failed(task.id, 0, 0.0, cause, b"", (), code, error.args, None, b"", b"")


def dependency_failure(task: Task, dependency: str) -> r.Failed:
    """Return the record of a task whose dependency did not succeed."""
    return no_attempt_failure(task, Cause.PERMANENT, DependencyError.of(task.id, dependency))


def tell_ended(memo: Memo, task: Task, step: Step) -> None:
    """Put the end of ``task`` into the news of all who want to know."""
    news = ended(task)
    step.news_for(task.client).ended.append(news)
    others = memo.watchers.pop(task.id, None)
    if others:
        for client in others - {task.client}:
            step.news_for(client).ended.append(news)
