"""Which names a cell needs from the notebook, and which it binds. Pure: nothing of it is run.

The walk follows the statements in order, and knows at each what is bound for certain. A name that
is read where it may be unbound is an input. What a function of the cell reads is read when the
function is first used, since it is looked up no sooner; one that the cell does not use is taken
to be used after its end.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass

from nbcluster.serial.code import global_names

#: What is bound for certain at a place; None where control never comes.
_Bound = set[str] | None
_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class CellNames:
    """Names of a cell, at its top level."""

    reads: tuple[str, ...]  #: read where the cell may not have bound them, in that order
    binds: frozenset[str]  #: bound by the cell, if only in a branch
    has_star: bool = False  #: it may bind others as well, by ``from x import *``


def names_of(tree: ast.Module) -> CellNames:
    """Return what the code of a cell reads and binds at its top level."""
    walk = _Walk()
    bound = walk.block(tree.body, set())
    walk.finish(bound)
    has_star = any(
        isinstance(node, ast.ImportFrom) and node.names[0].name == "*" for node in ast.walk(tree)
    )
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):  # its functions may bind them
            walk.binds.update(node.names)
    return CellNames(tuple(walk.reads), frozenset(walk.binds), has_star)


class _Walk:
    """One walk over the statements of a cell, or of a class in it."""

    def __init__(self) -> None:
        self.reads: dict[str, None] = {}
        self.binds: set[str] = set()
        self._later: dict[str, set[str]] = {}  #: function of the cell -> what it reads when used

    def finish(self, bound: _Bound) -> None:
        """Take in what the functions read that were not used."""
        for name in list(self._later):
            self._read(self._later.pop(name, ()), bound or self.binds)

    # ------------------------------------------------------------------ names

    def _read(self, names: Iterable[str], bound: set[str]) -> None:
        """Take in that names are looked up; functions among them may be called by that."""
        waiting = sorted(names, reverse=True)
        while waiting:
            name = waiting.pop()
            if name not in bound:
                self.reads[name] = None
            waiting += sorted(self._later.pop(name, ()), reverse=True)

    def _bind(self, names: Iterable[str], bound: set[str]) -> None:
        for name in names:
            bound.add(name)
            self.binds.add(name)

    def _expression(self, node: ast.expr | None, bound: set[str]) -> None:
        if node is not None:
            self._read(_read_by(node), bound)
            self._bind(_walruses(node), bound)

    def _target(self, node: ast.expr, bound: set[str]) -> None:
        """Bind what an assignment to ``node`` binds; read the parts of such as ``a[i]``."""
        match node:
            case ast.Name(id=name):
                self._later.pop(name, None)
                self._bind([name], bound)
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                for part in parts:
                    self._target(part, bound)
            case ast.Starred(value=part):
                self._target(part, bound)
            case ast.Attribute(value=part):
                self._expression(part, bound)
            case ast.Subscript(value=part, slice=index):
                self._expression(part, bound)
                self._expression(index, bound)

    # ------------------------------------------------------------------ statements

    def block(self, body: list[ast.stmt], bound: _Bound) -> _Bound:
        """Walk over statements; return what is bound after them."""
        for statement in body:
            if bound is None:
                break
            bound = self._statement(statement, bound)
        return bound

    def _statement(self, node: ast.stmt, bound: set[str]) -> _Bound:
        match node:
            case ast.If(test=test, body=body, orelse=orelse):
                self._expression(test, bound)
                return _meet(self.block(body, set(bound)), self.block(orelse, set(bound)))
            case ast.With() | ast.AsyncWith():
                return self._with(node, bound)
            case ast.Try() | ast.TryStar():
                return self._try(node, bound)
            case ast.Match():
                return self._match(node, bound)
            case ast.Raise(exc=error, cause=cause):
                self._expression(error, bound)
                self._expression(cause, bound)
                return None
            case ast.Break() | ast.Continue() | ast.Return():
                return None
            case _:
                self._through(node, bound)
        return bound

    def _through(self, node: ast.stmt, bound: set[str]) -> None:
        """Walk over a statement after which the next one follows."""
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self._function(node, bound)
            case ast.ClassDef():
                self._class(node, bound)
            case ast.For() | ast.AsyncFor() | ast.While():
                self._loop(node, bound)
            case ast.Import(names=names):
                self._bind((x.asname or x.name.partition(".")[0] for x in names), bound)
            case ast.ImportFrom(names=names):
                self._bind((x.asname or x.name for x in names if x.name != "*"), bound)
            case ast.Delete(targets=targets):
                for target in targets:
                    self._expression(_as_read(target), bound)
                    bound -= {x.id for x in ast.walk(target) if isinstance(x, ast.Name)}
            case _:
                self._assignment(node, bound)

    def _assignment(self, node: ast.stmt, bound: set[str]) -> None:
        match node:
            case ast.Assign(targets=targets, value=value):
                self._expression(value, bound)
                for target in targets:
                    self._target(target, bound)
            case ast.AugAssign(target=target, value=value):
                if isinstance(target, ast.Name):
                    self._read([target.id], bound)
                self._expression(value, bound)
                self._target(target, bound)
            case ast.AnnAssign(target=target, annotation=annotation, value=value):
                self._expression(annotation, bound)
                self._expression(value, bound)
                if value is not None:
                    self._target(target, bound)
            case _:
                is_alias = type(node).__name__ == "TypeAlias"  # of Python 3.12
                if is_alias:
                    self._target(node.name, bound)  # type: ignore[attr-defined, unused-ignore]
                inside = bound | _type_parameters(node) if is_alias else bound
                for child in ast.iter_child_nodes(node):
                    if isinstance(child, ast.expr) and not _is_store(child):
                        self._expression(child, inside)

    def _function(self, node: _Function, bound: set[str]) -> None:
        parameters = _type_parameters(node)
        for part in _evaluated_at_once(node):
            self._expression(part, bound | parameters)
        reads = _read_by(node) - parameters
        if node.decorator_list:  # whatever they do with it
            self._read(reads, bound | {node.name})
        else:
            self._later[node.name] = reads
        self._bind([node.name], bound)

    def _class(self, node: ast.ClassDef, bound: set[str]) -> None:
        for part in (*node.decorator_list, *node.bases, *(x.value for x in node.keywords)):
            self._expression(part, bound | _type_parameters(node))
        inner = _Walk()
        inner.finish(inner.block(node.body, bound | _type_parameters(node)))
        outside = {name for name in inner.reads if name not in bound}
        self._read(outside - {node.name}, bound)
        self._later.pop(node.name, None)
        self._bind([node.name], bound)

    def _loop(self, node: ast.For | ast.AsyncFor | ast.While, bound: set[str]) -> None:
        inside = set(bound)
        if isinstance(node, ast.While):
            self._expression(node.test, bound)
            inside = set(bound)
        else:
            self._expression(node.iter, bound)
            self._target(node.target, inside)
        self.block(node.body, inside)
        self.block(node.orelse, set(bound))

    def _with(self, node: ast.With | ast.AsyncWith, bound: set[str]) -> _Bound:
        for item in node.items:
            self._expression(item.context_expr, bound)
            if item.optional_vars is not None:
                self._target(item.optional_vars, bound)
        return self.block(node.body, bound)

    def _try(self, node: ast.Try | ast.TryStar, bound: set[str]) -> _Bound:
        after = self.block(node.orelse, self.block(node.body, set(bound)))
        for handler in node.handlers:
            caught = set(bound)
            self._expression(handler.type, caught)
            if handler.name:
                self._bind([handler.name], caught)
            left = self.block(handler.body, caught)
            if left is not None:
                left.discard(handler.name or "")
            after = _meet(after, left)
        ended = self.block(node.finalbody, set(bound))
        return None if after is None or ended is None else after | ended

    def _match(self, node: ast.Match, bound: set[str]) -> _Bound:
        self._expression(node.subject, bound)
        after: _Bound = None
        for case in node.cases:
            inside = set(bound)
            for part in ast.walk(case.pattern):
                if isinstance(part, ast.expr):
                    self._expression(part, inside)
                name = getattr(part, "name", None) or getattr(part, "rest", None)
                if isinstance(name, str):
                    self._bind([name], inside)
            self._expression(case.guard, inside)
            after = _meet(after, self.block(case.body, inside))
        return _meet(after, bound)


def _meet(one: _Bound, other: _Bound) -> _Bound:
    if one is None or other is None:
        return other if one is None else one
    return one & other


# --------------------------------------------------------------------------- single nodes


def _read_by(node: ast.expr | _Function) -> set[str]:
    """Return the globals that an expression, or the body of a function, looks up.

    Found in compiled code: the compiler knows the scopes of comprehensions, lambdas and nested
    functions.
    """
    body: list[ast.stmt] = [ast.Return(node) if isinstance(node, ast.expr) else _bare(node)]
    if isinstance(node, ast.expr):
        shell = ast.parse("async def _():\n pass")
        function = shell.body[0]
        assert isinstance(function, ast.AsyncFunctionDef)
        function.body = body
    else:
        shell = ast.Module(body, type_ignores=[])
    code = compile(ast.fix_missing_locations(shell), "<cell>", "exec", dont_inherit=True)
    inner = [c for c in code.co_consts if hasattr(c, "co_code")]
    return {name for c in inner for name in global_names(c)}


def _bare(node: _Function) -> _Function:
    """Return the function without what is evaluated where it stands."""
    kind = type(node)
    arguments = ast.arguments(
        posonlyargs=[ast.arg(a.arg) for a in node.args.posonlyargs],
        args=[ast.arg(a.arg) for a in node.args.args],
        vararg=ast.arg(node.args.vararg.arg) if node.args.vararg else None,
        kwonlyargs=[ast.arg(a.arg) for a in node.args.kwonlyargs],
        kw_defaults=[None for _ in node.args.kwonlyargs],
        kwarg=ast.arg(node.args.kwarg.arg) if node.args.kwarg else None,
        defaults=[],
    )
    return kind(name=node.name, args=arguments, body=node.body, decorator_list=[])


def _type_parameters(node: ast.stmt) -> set[str]:
    """Return the names in brackets after the name of a generic; there are none before 3.12."""
    return {parameter.name for parameter in getattr(node, "type_params", ())}


def _is_store(node: ast.expr) -> bool:
    return isinstance(getattr(node, "ctx", None), ast.Store)


def _evaluated_at_once(node: _Function) -> list[ast.expr]:
    arguments = node.args
    given = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    given += [a for a in (arguments.vararg, arguments.kwarg) if a is not None]
    parts = [*node.decorator_list, *arguments.defaults, *arguments.kw_defaults, node.returns]
    parts += [a.annotation for a in given]
    return [part for part in parts if part is not None]


def _walruses(node: ast.expr) -> list[str]:
    return [
        part.target.id
        for part in ast.walk(node)
        if isinstance(part, ast.NamedExpr) and isinstance(part.target, ast.Name)
    ]


def _as_read(node: ast.expr) -> ast.expr:
    """Return ``node``, a target of ``del``, as an expression."""
    return ast.parse(ast.unparse(node), mode="eval").body
