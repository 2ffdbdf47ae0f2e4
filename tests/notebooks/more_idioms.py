"""More of the catalogue: what is met less often, or has several twists at once."""

from __future__ import annotations

from typing import Final

from tests.notebooks.idioms import IDIOMS, _idiom, _refused

MORE_IDIOMS: Final = (
    _idiom(
        "a keyword-only dataclass with factories and a replaced copy",
        """
        from dataclasses import dataclass, field, replace, KW_ONLY
        @dataclass(kw_only=True, slots=True, frozen=True, order=True)
        class K:
            n: int = 0
            xs: list = field(default_factory=list, compare=False)
        @dataclass
        class M:
            a: int
            _: KW_ONLY
            b: int = 2
        def f(k, m):
            first = sorted([K(n=3), K(n=1)])[0].n
            return replace(k, n=5), first, M(1, b=3), isinstance(k, K)
        """,
        "submit(f, K(n=1, xs=[1]), M(1))",
        "result == (K(n=5), 1, M(1, b=3), True) and result[0].xs == [1]",
    ),
    _idiom(
        "a generic dataclass with a bound type variable",
        """
        from typing import Generic, TypeVar
        from dataclasses import dataclass
        N = TypeVar('N', bound='Base')
        class Base: pass
        @dataclass
        class Box(Generic[N]):
            item: N
        class IntBox(Box[Base]): pass
        def f(b): return IntBox(b.item), Box[Base].__origin__ is Box, IntBox.__orig_bases__
        """,
        "submit(f, Box(Base()))",
        "(type(result[0]), type(result[0].item), *result[1:])"
        " == (IntBox, Base, True, (Box[Base],))",
    ),
    _idiom(
        "total_ordering, partialmethod, singledispatchmethod",
        """
        from functools import total_ordering, partialmethod, singledispatchmethod
        @total_ordering
        class V:
            def __init__(self, n): self.n = n
            def __eq__(self, o): return self.n == o.n
            def __lt__(self, o): return self.n < o.n
            def add(self, k, *, by=1): return self.n + k * by
            add_two = partialmethod(add, 2, by=3)
            @singledispatchmethod
            def show(self, x): return 'any'
            @show.register
            def _(self, x: int): return 'int'
            @show.register
            def _(self, x: list): return 'list'
        def f(v): return v >= V(1), v.add_two(), v.show(1), v.show([]), v.show(''), max(V(1), V(9))
        """,
        "submit(f, V(2))",
        "result[:5] == (True, 8, 'int', 'list', 'any') and result[5] == V(9)",
    ),
    _idiom(
        "lambdas made in a loop, with and without defaults",
        """
        late = [lambda: i for i in range(3)]
        early = [lambda i=i: i for i in range(3)]
        def f(): return [g() for g in late], [g() for g in early]
        """,
        "(submit(f), [submit(g) for g in late], [submit(g) for g in early])",
        "result == (([2, 2, 2], [0, 1, 2]), [2, 2, 2], [0, 1, 2])",
    ),
    _idiom(
        "a decorator that counts",
        """
        import functools
        def counted(fn):
            @functools.wraps(fn)
            def inner(*args):
                inner.calls += 1
                return fn(*args), inner.calls
            inner.calls = 0
            return inner
        @counted
        def f(x): return x
        """,
        "(submit(f, 1), f.calls, f.__name__, f.__wrapped__(3))",
        "result == ((1, 1), 0, 'f', 3)",
    ),
    _idiom(
        "a class as a decorator with state",
        """
        class Registry:
            def __init__(self): self.known = {}
            def __call__(self, fn):
                self.known[fn.__name__] = fn
                return fn
        registry = Registry()
        @registry
        def one(): return 1
        @registry
        def two(): return registry.known['one']() + 1
        """,
        "(submit(two), submit(lambda: sorted(registry.known)))",
        "result == (2, ['one', 'two'])",
    ),
    _idiom(
        "methodcaller, attrgetter and other operator objects",
        """
        from operator import methodcaller, attrgetter
        import datetime
        day = datetime.date(2020, 1, 2)
        """,
        "(submit(methodcaller('split', '-'), 'a-b'), submit(attrgetter('year', 'month'), day))",
        "result == (['a', 'b'], (2020, 1))",
    ),
    _idiom(
        "times with zones",
        """
        import datetime as dt
        from zoneinfo import ZoneInfo
        zone = ZoneInfo('Europe/Berlin')
        when = dt.datetime(2024, 7, 1, 12, tzinfo=zone)
        def f(t): return t.astimezone(dt.timezone.utc), t.tzinfo is zone, dt.timedelta(hours=1)
        """,
        "submit(f, when)",
        "result == (when, True, dt.timedelta(hours=1))",
    ),
    _idiom(
        "numpy arrays of every kind",
        """
        import numpy as np
        a = np.arange(20.0).reshape(4, 5)
        kinds = {
            'view': a[1:3, ::2], 'fortran': np.asfortranarray(a),
            'readonly': np.broadcast_to(np.arange(5), (4, 5)),
            'structured': np.array([(1, 2.5, 'x')], dtype=[('n', 'i4'), ('v', 'f8'), ('s', 'U3')]),
            'masked': np.ma.masked_greater(a, 10),
            'objects': np.array([{'a': 1}, None], dtype=object),
            'empty': np.empty((0, 3)), 'scalar': np.float32(1.5), 'zero-d': np.array(7),
            'complex': np.array([1 + 2j]), 'bool': a > 3,
            'time': np.array(['2024-01-01', 'NaT'], dtype='M8[D]'),
            'record': np.rec.array([(1, 2)], names='a,b'),
            'big': np.arange(400_000.0).reshape(2, -1).T, 'bytes': np.array([b'ab']),
        }
        def looks(v): return type(v), getattr(v, 'dtype', None), np.shape(v)
        def f(k): return k, {n: looks(v) for n, v in k.items()}
        def same(r):
            back, told = r
            for n, v in kinds.items():
                w = back[n]
                assert told[n] == looks(v), n
                assert type(w) is type(v) and w.dtype == v.dtype and w.shape == v.shape, n
                assert np.ma.allequal(v, w) if n in ('masked',) else repr(v) == repr(w), n
            return True
        """,
        "submit(f, kinds)",
        "same(result)",
    ),
    _idiom(
        "a small array that came home can be written to",
        """
        import numpy as np
        def f(a):
            a += 1
            return a
        """,
        "submit(f, np.zeros(3))",
        "(result.__setitem__(0, 5), result[0] == 5)[1]",
    ),
    _idiom(
        "a pandas frame with categories, a multi-index and time zones",
        """
        import pandas as pd
        index = pd.MultiIndex.from_product([['a', 'b'], [1, 2]], names=['k', 'n'])
        columns = {
            'c': pd.Categorical(['x', 'y', 'x', None]),
            't': pd.date_range('2024-01-01', periods=4, tz='Europe/Berlin'),
            's': pd.array([1, None, 3, 4], dtype='Int64'),
            'o': ['p', None, 'q', 'r'],
        }
        frame = pd.DataFrame(columns, index=index)
        def same(d, types, sums):
            back = d.drop(columns='z')
            assert back.equals(frame) and back.index.equals(index)
            return types == frame.dtypes.astype(str).to_dict() and list(sums) == [1, 7]
        def f(d): return d.assign(z=1), d.dtypes.astype(str).to_dict(), d.groupby(level='k').s.sum()
        """,
        "submit(f, frame)",
        "same(*result)",
    ),
    _idiom(
        "a scikit-learn pipeline with a function of the notebook",
        """
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import FunctionTransformer
        from sklearn.linear_model import LinearRegression
        import numpy as np
        FACTOR = 2
        def scale(x): return np.asarray(x) * FACTOR
        pipe = make_pipeline(FunctionTransformer(scale), LinearRegression())
        def fit(p): return p.fit([[1], [2], [3]], [2, 4, 6])
        """,
        "submit(fit, pipe)",
        "round(float(result.predict([[4]])[0]), 6) == 8.0 and result.steps[0][1].func([1])[0] == 2",
    ),
    _idiom(
        "generators of random numbers carry their state",
        """
        import random, numpy as np
        r = random.Random(5); g = np.random.default_rng(5); s = np.random.RandomState(5)
        def f(r, g, s): return r.random(), g.random(), s.rand()
        expected = f(random.Random(5), np.random.default_rng(5), np.random.RandomState(5))
        """,
        "submit(f, r, g, s)",
        "result == expected and f(r, g, s) == expected",
    ),
    _idiom(
        "a class that is defined again: old instances stay what they were",
        """
        class Thing:
            def who(self): return 'old'
        old = Thing()
        class Thing:
            def who(self): return 'new'
        new = Thing()
        def f(a, b): return a.who(), b.who(), isinstance(a, Thing), isinstance(b, Thing), a, b
        """,
        "submit(f, old, new)",
        "(*result[:4], result[4].who(), type(result[5]))"
        " == ('old', 'new', False, True, 'old', Thing)",
    ),
    _idiom(
        "a method that is replaced between two calls",
        """
        class Counter:
            def step(self): return 1
        c = Counter()
        def f(): return c.step()
        def both():
            first = submit(f)
            Counter.step = lambda self: 2
            return first, submit(f)
        """,
        "both()",
        "result == (1, 2)",
    ),
    _idiom(
        "a helper that is defined again between two calls",
        """
        def helper(): return 'a'
        def f(): return helper()
        def both():
            global helper
            first = submit(f)
            def helper(): return 'b'
            return first, submit(f)
        """,
        "both()",
        "result == ('a', 'b')",
    ),
    _idiom(
        "a star import",
        """
        from math import *
        from os.path import *
        def f(x): return sqrt(x), join('a', 'b'), pi > 3
        """,
        "submit(f, 4)",
        "result == (2.0, 'a/b', True)",
    ),
    _idiom(
        "functions made by exec in the notebook itself",
        """
        exec('K = 3\\ndef made(x): return x * K')
        def f(x): return made(x) + 1
        """,
        "submit(f, 2)",
        "result == 7",
    ),
    _idiom(
        "nonlocal counters in a closure that is sent twice",
        """
        def make():
            n = 0
            def step():
                nonlocal n
                n += 1
                return n
            return step
        step = make()
        step()
        """,
        "(submit(step), submit(step), step())",
        "result == (2, 3, 2)",
    ),
    _idiom(
        "string enums and flags with methods",
        """
        import enum
        class Level(enum.IntEnum):
            LOW = 1
            HIGH = 2
            @classmethod
            def parse(cls, s): return cls[s.upper()]
            @property
            def next(self): return Level(self + 1)
        class Perm(enum.Flag):
            R = enum.auto()
            W = enum.auto()
            RW = R | W
            def has(self, p): return p in self
        class Word(enum.StrEnum):
            @staticmethod
            def _generate_next_value_(name, *_): return name + '!'
            HI = enum.auto()
        def f(l, p, w):
            return Level.parse('high'), l.next, p.has(Perm.R), Perm.RW ^ Perm.R, w + 'x', {w: 1}
        """,
        "submit(f, Level.LOW, Perm.RW, Word.HI)",
        "result == (Level.HIGH, Level.HIGH, True, Perm.W, 'HI!x', {Word.HI: 1})"
        " and result[0] is Level.HIGH and result[3] is Perm.W",
    ),
    _idiom(
        "a metaclass with __call__, __prepare__ and a singleton",
        """
        class Single(type):
            made = {}
            @classmethod
            def __prepare__(mcs, name, bases, **kw): return {'extra': kw.get('extra', 0)}
            def __new__(mcs, name, bases, ns, **kw):
                return super().__new__(mcs, name, bases, dict(ns))
            def __init__(cls, name, bases, ns, **kw): super().__init__(name, bases, ns)
            def __call__(cls, *a):
                if cls not in Single.made: Single.made[cls] = super().__call__(*a)
                return Single.made[cls]
        class Conf(metaclass=Single, extra=4):
            def __init__(self): self.x = 1
        def f(): return Conf() is Conf(), Conf.extra, type(Conf).__name__
        """,
        "submit(f)",
        "result == (True, 4, 'Single')",
    ),
    _idiom(
        "an abstract class with a registered virtual subclass",
        """
        from abc import ABC, abstractmethod
        class Shape(ABC):
            @abstractmethod
            def area(self): ...
            @classmethod
            def __subclasshook__(cls, c): return True if hasattr(c, 'areal') else NotImplemented
        class Foreign: pass
        class Hooked: areal = 1
        Shape.register(Foreign)
        def f(x):
            try: Shape()
            except TypeError: pass
            else: return 'made'
            return isinstance(x, Shape), issubclass(Hooked, Shape), issubclass(int, Shape)
        """,
        "submit(f, Foreign())",
        "result == (True, True, False)",
    ),
    _idiom(
        "a closure over a class made in the same function",
        """
        def make(k):
            class Inner:
                scale = k
                def go(self, x): return x * self.scale
                def clone(self): return Inner()
            def use(x): return Inner().clone().go(x), Inner
            return use
        use = make(3)
        """,
        "submit(use, 2)",
        "result[0] == 6 and result[1]().go(1) == 3",
    ),
    _idiom(
        "async generators, contexts and gather",
        """
        import asyncio
        from contextlib import asynccontextmanager
        async def numbers(n):
            for i in range(n):
                yield i
                await asyncio.sleep(0)
        @asynccontextmanager
        async def doubled(x):
            yield 2 * x
        async def f(n):
            async with doubled(n) as d:
                xs = [x async for x in numbers(d)]
            return xs, await asyncio.gather(asyncio.sleep(0, 1), asyncio.sleep(0, 2))
        """,
        "submit(f, 2)",
        "result == ([0, 1, 2, 3], [1, 2])",
    ),
    _idiom(
        "a class with __getattr__, __eq__ and no hash",
        """
        class Odd:
            def __init__(self): self.d = {'a': 1}
            def __getattr__(self, n):
                if n.startswith('__'): raise AttributeError(n)
                return self.d[n]
            def __eq__(self, o): return self.d == o.d
        def f(o): return o.a, o
        """,
        "submit(f, Odd())",
        "result == (1, Odd())",
    ),
    _idiom(
        "an array of the standard library, constants, and huge numbers",
        """
        import array
        things = (
            array.array('d', [1, 2]), bytearray(b'ab'), 10**500, 1e308 * 10, frozenset({1}),
            slice(1, 2), ..., NotImplemented, complex(1, 2),
        )
        def f(*a): return a
        """,
        "submit(f, *things)",
        "result == things",
    ),
    _idiom(
        "a monkeypatched module is patched where the patch is applied",
        """
        import math
        def patched():
            import math
            old = math.tau
            math.tau = 1
            try: return math.tau
            finally: math.tau = old
        """,
        "(submit(patched), math.tau > 6)",
        "result == (1, True)",
    ),
    _idiom(
        "a dictionary that is changed after the function was sent once",
        """
        table = {'a': 1}
        def f(): return table.get('b')
        def both():
            first = submit(f)
            table['b'] = 2
            return first, submit(f)
        """,
        "both()",
        "result == (None, 2)",
    ),
    _idiom(
        "an attribute deep in a captured object that is changed",
        """
        class Conf: pass
        conf = Conf(); conf.inner = Conf(); conf.inner.rate = 1
        def f(): return conf.inner.rate
        def both():
            first = submit(f)
            conf.inner.rate = 2
            return first, submit(f)
        """,
        "both()",
        "result == (1, 2)",
    ),
    _idiom(
        "a captured array that is changed in place",
        """
        import numpy as np
        weights = np.zeros(200_000)
        def f(): return float(weights.sum())
        def both():
            first = submit(f)
            weights[0] = 5
            return first, submit(f)
        """,
        "both()",
        "result == (0.0, 5.0)",
    ),
    _idiom(
        "a default argument that is changed in place",
        """
        def f(x, opts={'k': 1}): return opts['k']
        def both():
            first = submit(f, 0)
            f.__defaults__[0]['k'] = 2
            return first, submit(f, 0)
        """,
        "both()",
        "result == (1, 2)",
    ),
    _idiom(
        "a named tuple with defaults and methods, a typed dictionary with Required",
        """
        from typing import NamedTuple, TypedDict, NotRequired
        class P(NamedTuple):
            x: int
            y: int = 2
            def norm(self): return self.x + self.y
        class D(TypedDict, total=False):
            a: NotRequired[int]
        def f(p):
            kinds = P.__annotations__['x'], D.__optional_keys__
            return p._replace(x=5), p.norm(), D(a=1), *kinds
        """,
        "submit(f, P(1))",
        "result == (P(5, 2), 3, {'a': 1}, int, frozenset({'a'})) and type(result[0]) is P",
    ),
    _idiom(
        "an exception with attributes, a cause and a custom str",
        """
        class Api(Exception):
            def __init__(self, code, *, url='u'):
                super().__init__(f'{code} at {url}')
                self.code, self.url = code, url
        def f():
            try: raise KeyError('k')
            except KeyError as e: raise Api(404, url='x') from e
        def caught():
            try: submit(f)
            except Api as e: return e.code, e.url, str(e), type(e) is Api
        """,
        "caught()",
        "result == (404, 'x', '404 at x', True)",
    ),
    _idiom(
        "a logger with handlers of its own",
        """
        import logging
        log = logging.getLogger('mine'); log.addHandler(logging.NullHandler())
        class Job:
            def __init__(self): self.log = log
            def run(self):
                self.log.warning('hi')
                return self.log.name
        """,
        "submit(Job().run)",
        "result == 'mine'",
    ),
    _refused(
        "a coroutine object",
        """
        async def later(): return 1
        coroutine = later()
        coroutine.close()  # else Python warns that nobody awaited it
        """,
        "submit(lambda x: 1, coroutine)",
        "args[0]",
    ),
    _refused(
        "a lock inside a list of an argument",
        """
        import socket
        class Pool:
            def __init__(self): self.conns = [socket.socket()]
        pool = Pool()
        """,
        "submit(lambda p: 1, pool)",
        "attribute 'conns' -> item 0 -> socket.socket",
    ),
    _refused(
        "a memory-mapped file",
        """
        import mmap
        m = mmap.mmap(-1, 10)
        def f(): return m[0]
        """,
        "submit(f)",
        "f -> global 'm' -> mmap.mmap",
    ),
    _refused(
        "a frame",
        """
        import sys
        fr = sys._getframe()
        def f(x): return 1
        """,
        "submit(f, {'k': fr})",
        "args[0] -> key 'k' -> frame",
    ),
)

ALL_IDIOMS: Final = (*IDIOMS, *MORE_IDIOMS)
