"""What people write in notebooks and expect to work on a cluster, as data.

Each idiom defines things as a cell would (``setup``), submits something (``submit``, an
expression that uses ``submit(fn, *args)`` and gives the result), and says what must hold of
``result`` afterwards (``check``). With ``refused`` the submission must raise `UnpicklableError`,
whose path contains ``check``.
"""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import dedent
from typing import Final


@dataclass(frozen=True, slots=True)
class Idiom:
    """One thing that people do."""

    name: str
    setup: str
    submit: str
    check: str
    refused: bool = False


def _idiom(name: str, setup: str, submit: str, check: str) -> Idiom:
    return Idiom(name, dedent(setup).strip() + "\n", submit, check)


def _refused(name: str, setup: str, submit: str, path: str) -> Idiom:
    return Idiom(name, dedent(setup).strip() + "\n", submit, path, refused=True)


FUNCTIONS: Final = (
    _idiom("a function", "def f(x): return x + 1", "submit(f, 1)", "result == 2"),
    _idiom("a lambda", "", "submit(lambda x: x * 2, 4)", "result == 8"),
    _idiom("a builtin", "", "submit(max, [1, 5, 3])", "result == 5"),
    _idiom("a method of str", "", "submit(str.upper, 'a')", "result == 'A'"),
    _idiom("a bound method of a value", "", "submit('a-b'.split, '-')", "result == ['a', 'b']"),
    _idiom(
        "a helper defined in another cell",
        """
        def area(r): return 3 * r * r
        def twice(r): return 2 * area(r)
        """,
        "submit(twice, 2)",
        "result == 24",
    ),
    _idiom(
        "a global constant",
        """
        SCALE = 10
        def scaled(x): return x * SCALE
        """,
        "submit(scaled, 3)",
        "result == 30",
    ),
    _idiom(
        "a module under another name",
        """
        import math as m
        def root(x): return m.sqrt(x)
        """,
        "submit(root, 9)",
        "result == 3.0",
    ),
    _idiom(
        "a name from a module",
        """
        from math import floor as down
        def low(x): return down(x)
        """,
        "submit(low, 2.5)",
        "result == 2",
    ),
    _idiom(
        "a submodule by its dotted name",
        """
        import xml.etree.ElementTree
        def tag(text): return xml.etree.ElementTree.fromstring(text).tag
        """,
        "submit(tag, '<a/>')",
        "result == 'a'",
    ),
    _idiom(
        "an import inside the function",
        """
        def dumped(x):
            import json
            return json.dumps(x)
        """,
        "submit(dumped, [1])",
        "result == '[1]'",
    ),
    _idiom(
        "a closure",
        """
        def adder(n):
            def add(x): return x + n
            return add
        """,
        "submit(adder(5), 1)",
        "result == 6",
    ),
    _idiom(
        "a recursive function",
        "def fact(n): return 1 if n < 2 else n * fact(n - 1)",
        "submit(fact, 6)",
        "result == 720",
    ),
    _idiom(
        "a recursive closure",
        """
        def make_fib():
            def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
            return fib
        """,
        "submit(make_fib(), 10)",
        "result == 55",
    ),
    _idiom(
        "two functions that call each other",
        """
        def is_even(n): return True if n == 0 else is_odd(n - 1)
        def is_odd(n): return False if n == 0 else is_even(n - 1)
        """,
        "submit(is_even, 10)",
        "result is True",
    ),
    _idiom(
        "two closures over one variable",
        """
        def counter():
            n = 0
            def up():
                nonlocal n
                n += 1
            def get(): return n
            return up, get
        up, get = counter()
        def twice():
            up(); up()
            return get()
        """,
        "submit(twice)",
        "result == 2",
    ),
    _idiom(
        "defaults and keyword defaults",
        "def f(a, b=2, *, c=3): return a, b, c",
        "submit(f, 1, c=9)",
        "result == (1, 2, 9)",
    ),
    _idiom(
        "a mutable default",
        """
        def gather(x, seen=[]):
            seen.append(x)
            return list(seen)
        """,
        "submit(gather, 1)",
        "result == [1]",
    ),
    _idiom(
        "annotations with types of the notebook",
        """
        class Point: pass
        def f(p: Point, n: 'int' = 1) -> Point: return f.__annotations__['p'].__name__
        """,
        "submit(f, None)",
        "result == 'Point'",
    ),
    _idiom(
        "a docstring and a name",
        '''
        def f():
            """Does it."""
            return f.__doc__, f.__name__, f.__module__
        ''',
        "submit(f)",
        "result == ('Does it.', 'f', '__main__')",
    ),
    _idiom(
        "a function attribute",
        """
        def f(): return f.limit
        f.limit = 7
        """,
        "submit(f)",
        "result == 7",
    ),
    _idiom(
        "a walrus and a comprehension",
        "def f(xs): return [y for x in xs if (y := x * 2) > 2]",
        "submit(f, [1, 2, 3])",
        "result == [4, 6]",
    ),
    _idiom(
        "a comprehension over a global",
        """
        factors = (1, 2, 3)
        def f(x): return [x * k for k in factors]
        """,
        "submit(f, 2)",
        "result == [2, 4, 6]",
    ),
    _idiom(
        "a global counter",
        """
        hits = 0
        def hit():
            global hits
            hits += 1
            return hits
        """,
        "(submit(hit), submit(hit))",
        "result == (1, 2)",
    ),
    _idiom(
        "a generator that the task uses up",
        """
        def numbers(n):
            for i in range(n): yield i
        def total(n): return sum(numbers(n))
        """,
        "submit(total, 4)",
        "result == 6",
    ),
    _idiom(
        "an async function",
        """
        import asyncio
        async def later(x):
            await asyncio.sleep(0)
            return x + 1
        """,
        "submit(later, 1)",
        "result == 2",
    ),
    _idiom(
        "a partial",
        """
        from functools import partial
        def power(a, b): return a ** b
        """,
        "submit(partial(power, b=3), 2)",
        "result == 8",
    ),
    _idiom(
        "a decorator with wraps",
        """
        import functools
        def doubled(fn):
            @functools.wraps(fn)
            def inner(*args): return 2 * fn(*args)
            return inner
        @doubled
        def f(x): return x + 1
        """,
        "submit(f, 1)",
        "result == 4",
    ),
    _idiom(
        "a decorator with arguments",
        """
        def times(n):
            def wrap(fn):
                def inner(*args): return [fn(*args) for _ in range(n)]
                return inner
            return wrap
        @times(3)
        def f(): return 'a'
        """,
        "submit(f)",
        "result == ['a', 'a', 'a']",
    ),
    _idiom(
        "a cached function",
        """
        from functools import cache
        @cache
        def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
        """,
        "submit(fib, 50)",
        "result == 12586269025",
    ),
    _idiom(
        "a recursive cached closure",
        """
        from functools import lru_cache
        def make():
            @lru_cache(maxsize=10)
            def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
            return fib
        """,
        "submit(make(), 20)",
        "result == 6765",
    ),
    _idiom(
        "single dispatch",
        """
        from functools import singledispatch
        class Cat: pass
        @singledispatch
        def speak(x): return 'eh'
        @speak.register
        def _(x: int): return 'one'
        @speak.register(Cat)
        def _(x): return 'meow'
        def teach():
            speak.register(str, lambda x: 'text')
            return speak('x'), str in speak.registry
        """,
        "(submit(speak, 1), submit(speak, Cat()), submit(speak, 1.5), speak(Cat()), submit(teach))",
        "result == ('one', 'meow', 'eh', 'meow', ('text', True))",
    ),
    _idiom(
        "a context manager from a generator",
        """
        from contextlib import contextmanager
        @contextmanager
        def doubled(x): yield 2 * x
        def f(x):
            with doubled(x) as y: return y
        """,
        "submit(f, 4)",
        "result == 8",
    ),
    _idiom(
        "a function of a task that is called at home",
        """
        offset = 100
        def make(n): return lambda x: x + n + offset
        """,
        "submit(make, 5)(1)",
        "result == 106",
    ),
    _idiom(
        "a function with a name nobody defined",
        """
        def f():
            try: return not_there
            except NameError: return 'no'
        """,
        "submit(f)",
        "result == 'no'",
    ),
    _idiom(
        "a function made by exec",
        """
        namespace = {'k': 4}
        exec('def made(x): return x * k', namespace)
        """,
        "submit(namespace['made'], 2)",
        "result == 8",
    ),
    _idiom(
        "a function in a dictionary of functions",
        """
        table = {'inc': lambda x: x + 1, 'dec': lambda x: x - 1}
        def apply(name, x): return table[name](x)
        """,
        "submit(apply, 'dec', 3)",
        "result == 2",
    ),
    _idiom(
        "a match statement",
        """
        def f(x):
            match x:
                case {'kind': kind}: return kind
                case [first, *_]: return first
        """,
        "(submit(f, {'kind': 'a'}), submit(f, [3, 4]))",
        "result == ('a', 3)",
    ),
)

CLASSES: Final = (
    _idiom(
        "an instance comes home as the notebook's own class",
        """
        class Foo:
            def __init__(self, x): self.x = x
        def make(x): return Foo(x)
        """,
        "submit(make, 3)",
        "isinstance(result, Foo) and type(result) is Foo and result.x == 3",
    ),
    _idiom(
        "an instance goes out",
        """
        class Foo:
            def __init__(self, x): self.x = x
            def double(self): return 2 * self.x
        def f(foo): return isinstance(foo, Foo) and foo.double()
        """,
        "submit(f, Foo(4))",
        "result == 8",
    ),
    _idiom(
        "a bound method",
        """
        class Model:
            def __init__(self): self.w = 3
            def predict(self, x): return self.w * x
        """,
        "submit(Model().predict, 4)",
        "result == 12",
    ),
    _idiom(
        "a callable object",
        """
        class Adder:
            def __init__(self, n): self.n = n
            def __call__(self, x): return x + self.n
        """,
        "submit(Adder(2), 3)",
        "result == 5",
    ),
    _idiom(
        "a class as the function",
        """
        class Box:
            def __init__(self, x): self.x = x
        """,
        "submit(Box, 5)",
        "type(result) is Box and result.x == 5",
    ),
    _idiom(
        "super",
        """
        class A:
            def who(self): return 'A'
        class B(A):
            def who(self): return super().who() + 'B'
        """,
        "submit(B().who)",
        "result == 'AB'",
    ),
    _idiom(
        "class methods, static methods, properties",
        """
        class T:
            base = 10
            @classmethod
            def make(cls): return cls.base
            @staticmethod
            def plain(x): return x + 1
            @property
            def prop(self): return self.base + 2
        def f(): return T.make(), T.plain(1), T().prop
        """,
        "submit(f), submit(T.make), submit(T.plain, 2)",
        "result == ((10, 2, 12), 10, 3)",
    ),
    _idiom(
        "a method that uses its class",
        """
        class Node:
            def __init__(self, v): self.v = v
            def next(self): return Node(self.v + 1)
        """,
        "submit(Node(1).next)",
        "type(result) is Node and result.v == 2",
    ),
    _idiom(
        "two classes that use each other",
        """
        class Ping:
            def go(self, n): return 'ping' if n == 0 else Pong().go(n - 1)
        class Pong:
            def go(self, n): return 'pong' if n == 0 else Ping().go(n - 1)
        """,
        "submit(Ping().go, 3)",
        "result == 'pong'",
    ),
    _idiom(
        "a dataclass",
        """
        from dataclasses import dataclass, field, asdict, replace, fields
        @dataclass
        class P:
            x: int
            tags: list = field(default_factory=list)
        def f(p):
            return replace(p, x=p.x + 1), asdict(p), [g.name for g in fields(P)], P(1) == P(1)
        """,
        "submit(f, P(1, ['a']))",
        "result == (P(2, ['a']), {'x': 1, 'tags': ['a']}, ['x', 'tags'], True)",
    ),
    _idiom(
        "a frozen dataclass as a key",
        """
        from dataclasses import dataclass
        @dataclass(frozen=True, order=True)
        class Key:
            a: int
            b: str = 'b'
        def f(table): return table[Key(1)], max(table)
        """,
        "submit(f, {Key(1): 'one', Key(2): 'two'})",
        "result == ('one', Key(2)) and hash(result[1]) == hash(Key(2))",
    ),
    _idiom(
        "a dataclass with slots",
        """
        from dataclasses import dataclass
        @dataclass(slots=True, frozen=True)
        class S:
            x: int
            y: int = 2
        def f(s): return S(s.y, s.x)
        """,
        "submit(f, S(1))",
        "result == S(2, 1) and not hasattr(result, '__dict__')",
    ),
    _idiom(
        "a dataclass with a post-init and a class variable",
        """
        from dataclasses import dataclass, field, KW_ONLY
        from typing import ClassVar
        @dataclass
        class C:
            a: int
            _: KW_ONLY
            b: int = 1
            unit: ClassVar[str] = 'cm'
            total: int = field(init=False)
            def __post_init__(self): self.total = self.a + self.b
        def f(): return C(1, b=5)
        """,
        "submit(f)",
        "result == C(1, b=5) and result.total == 6 and result.unit == 'cm'",
    ),
    _idiom(
        "dataclasses that inherit",
        """
        from dataclasses import dataclass
        @dataclass
        class Base: a: int
        @dataclass
        class Derived(Base): b: int = 2
        def f(d): return isinstance(d, Base), d
        """,
        "submit(f, Derived(1))",
        "result == (True, Derived(1, 2))",
    ),
    _idiom(
        "an enum keeps its members",
        """
        from enum import Enum
        class Color(Enum):
            RED = 1
            BLUE = 'b'
            CRIMSON = 1
            def shout(self): return self.name + '!'
        def f(c): return c is Color.RED, c.shout(), Color('b'), Color.CRIMSON is Color.RED, c
        """,
        "submit(f, Color.RED)",
        "result == (True, 'RED!', Color.BLUE, True, Color.RED) and result[4] is Color.RED",
    ),
    _idiom(
        "an enum with auto, flags, strings and integers",
        """
        from enum import Enum, Flag, IntEnum, IntFlag, StrEnum, auto
        class A(Enum):
            X = auto()
            Y = auto()
        class F(Flag):
            R = auto()
            W = auto()
            RW = R | W
        class I(IntEnum):
            ONE = 1
        class G(IntFlag):
            P = 1
            Q = 2
        class S(StrEnum):
            HI = auto()
        def f(): return A.Y, F.R | F.W, I.ONE + 1, G.P | G.Q, S.HI, S.HI.upper(), F.RW
        """,
        "submit(f)",
        "result[0] is A.Y and result[1] is F.RW and result[2:4] == (2, 3) "
        "and result[3] is G(3) and result[4] is S.HI and result[5] == 'HI'",
    ),
    _idiom(
        "an enum whose members have attributes",
        """
        from enum import Enum
        class Planet(Enum):
            EARTH = (6, 10)
            MARS = (3, 5)
            def __init__(self, mass, radius):
                self.mass, self.radius = mass, radius
            @property
            def ratio(self): return self.mass / self.radius
        class Code(str, Enum):
            OK = ('ok', 200)
            def __new__(cls, text, number):
                made = str.__new__(cls, text)
                made._value_, made.number = text, number
                return made
        def f(p): return p.ratio, Planet((3, 5)), Code.OK, Code('ok').number, Code.OK + '!'
        """,
        "submit(f, Planet.EARTH)",
        "result == (0.6, Planet.MARS, Code.OK, 200, 'ok!') and result[2] is Code.OK",
    ),
    _idiom(
        "an enum of functions",
        """
        from enum import Enum, member
        from functools import partial
        class Op(Enum):
            ADD = member(partial(lambda a, b: a + b))
            NEG = member(partial(lambda a: -a))
        def f(op): return op is Op.ADD, op.value(1, 2), Op.NEG
        """,
        "submit(f, Op.ADD)",
        "result == (True, 3, Op.NEG)",
    ),
    _idiom(
        "an enum as a key",
        """
        from enum import Enum
        class Side(Enum):
            LEFT = 'l'
            RIGHT = 'r'
        names = {Side.LEFT: 'left', Side.RIGHT: 'right'}
        def f(side): return names[side], {side: 1}
        """,
        "submit(f, Side.LEFT)",
        "result == ('left', {Side.LEFT: 1})",
    ),
    _idiom(
        "a named tuple",
        """
        from typing import NamedTuple
        from collections import namedtuple
        class P(NamedTuple):
            x: int
            y: int = 2
            def norm(self): return self.x + self.y
        Q = namedtuple('Q', 'a b')
        def f(p): return p.norm(), p._replace(x=9), Q(1, b=2), P(1)
        """,
        "submit(f, P(1))",
        "result == (3, P(9, 2), Q(1, 2), P(1, 2)) and (type(result[1]), type(result[2])) == (P, Q)",
    ),
    _idiom(
        "a typed dictionary",
        """
        from typing import TypedDict
        class Row(TypedDict, total=False):
            a: int
        def f(): return Row(a=1), sorted(Row.__annotations__)
        """,
        "submit(f)",
        "result == ({'a': 1}, ['a'])",
    ),
    _idiom(
        "an abstract class",
        """
        from abc import ABC, abstractmethod
        class Shape(ABC):
            @abstractmethod
            def area(self): ...
            def double(self): return 2 * self.area()
        class Square(Shape):
            def __init__(self, s): self.s = s
            def area(self): return self.s ** 2
        @Shape.register
        class Odd: pass
        def f(s):
            try: Shape()
            except TypeError: refused = True
            odd = issubclass(Odd, Shape)
            return isinstance(s, Shape), s.double(), refused, odd, isinstance(3, Shape)
        """,
        "submit(f, Square(3))",
        "result == (True, 18, True, True, False)",
    ),
    _idiom(
        "a protocol",
        """
        from typing import Protocol, runtime_checkable
        @runtime_checkable
        class Quacks(Protocol):
            def quack(self) -> str: ...
        class Duck:
            def quack(self): return 'quack'
        def f(d): return isinstance(d, Quacks), isinstance(3, Quacks)
        """,
        "submit(f, Duck())",
        "result == (True, False)",
    ),
    _idiom(
        "a generic class",
        """
        from typing import Generic, TypeVar
        T = TypeVar('T')
        class Stack(Generic[T]):
            def __init__(self): self.items = []
            def push(self, x: T): self.items.append(x); return self
        IntStack = Stack[int]
        def f():
            return IntStack().push(1), Stack[str]().push('a').items, Stack.__parameters__[0] is T
        """,
        "submit(f)",
        "type(result[0]) is Stack and result[0].items == [1] and result[1:] == (['a'], True)",
    ),
    _idiom(
        "a metaclass",
        """
        class Meta(type):
            made = []
            def __new__(mcls, name, bases, space, **options):
                cls = super().__new__(mcls, name, bases, space)
                cls.tag = name.lower()
                mcls.made.append(name)
                return cls
            def __len__(cls): return 7
        class Thing(metaclass=Meta): pass
        def f(t): return t.tag, len(type(t)), Meta.made
        """,
        "submit(f, Thing())",
        "result == ('thing', 7, ['Thing'])",
    ),
    _idiom(
        "a registry by __init_subclass__",
        """
        class Plugin:
            known = {}
            def __init_subclass__(cls, /, key, **options):
                super().__init_subclass__(**options)
                Plugin.known[key] = cls
        class Csv(Plugin, key='csv'):
            def load(self): return 'csv'
        def f(key): return Plugin.known[key]().load(), len(Plugin.known)
        """,
        "submit(f, 'csv')",
        "result == ('csv', 1)",
    ),
    _idiom(
        "slots",
        """
        class Slotted:
            __slots__ = ('x', '__hidden')
            def __init__(self, x): self.x, self.__hidden = x, 2 * x
            def hidden(self): return self.__hidden
        def f(s): return s.hidden(), s
        """,
        "submit(f, Slotted(2))",
        "result[0] == 4 and type(result[1]) is Slotted and result[1].x == 2",
    ),
    _idiom(
        "a descriptor",
        """
        class Positive:
            def __set_name__(self, owner, name): self.name = '_' + name
            def __get__(self, obj, owner=None):
                return self if obj is None else getattr(obj, self.name)
            def __set__(self, obj, value): setattr(obj, self.name, abs(value))
        class Account:
            money = Positive()
            def __init__(self, money): self.money = money
        def f(x): return Account(x)
        """,
        "submit(f, -3)",
        "result.money == 3 and isinstance(result, Account)",
    ),
    _idiom(
        "a cached property",
        """
        from functools import cached_property
        class Lazy:
            @cached_property
            def value(self): return 42
        def f(lazy): return lazy.value
        """,
        "submit(f, Lazy())",
        "result == 42",
    ),
    _idiom(
        "a nested class",
        """
        class Outer:
            class Inner:
                def __init__(self): self.v = 5
        def f(): return Outer.Inner()
        """,
        "submit(f)",
        "type(result) is Outer.Inner and result.v == 5",
    ),
    _idiom(
        "a class made in a function",
        """
        def make(n):
            class Local:
                factor = n
                def times(self, x): return self.factor * x
            return Local
        L = make(3)
        """,
        "submit(lambda o, x: o.times(x), L(), 4)",
        "result == 12",
    ),
    _idiom(
        "an iterator class",
        """
        class Count:
            def __init__(self, n): self.i, self.n = 0, n
            def __iter__(self): return self
            def __next__(self):
                if self.i >= self.n: raise StopIteration
                self.i += 1
                return self.i
        """,
        "submit(list, Count(3))",
        "result == [1, 2, 3]",
    ),
    _idiom(
        "operators and hash",
        """
        class V:
            def __init__(self, *xs): self.xs = xs
            def __add__(self, o): return V(*(a + b for a, b in zip(self.xs, o.xs)))
            def __eq__(self, o): return type(o) is V and self.xs == o.xs
            def __hash__(self): return hash(self.xs)
            def __repr__(self): return f'V{self.xs}'
        def f(a, b): return a + b, {a: 1}[V(1, 2)]
        """,
        "submit(f, V(1, 2), V(3, 4))",
        "result == (V(4, 6), 1)",
    ),
    _idiom(
        "getstate and setstate that use a module",
        """
        import threading
        class Guarded:
            def __init__(self): self.n, self.lock = 1, threading.Lock()
            def __getstate__(self): return {'n': self.n}
            def __setstate__(self, state):
                self.__dict__.update(state)
                self.lock = threading.Lock()
            def get(self):
                with self.lock: return self.n
        def f(g): return g.get(), g
        """,
        "submit(f, Guarded())",
        "result[0] == 1 and result[1].get() == 1",
    ),
    _idiom(
        "a hash that uses a global",
        """
        SALT = 17
        class Hashed:
            def __init__(self, n): self.n = n
            def __hash__(self): return hash((self.n, SALT))
            def __eq__(self, o): return self.n == o.n
        """,
        "submit(lambda s: len(s), {Hashed(1), Hashed(2)})",
        "result == 2",
    ),
    _idiom(
        "a class variable that counts",
        """
        class Counted:
            n = 0
            def __init__(self): Counted.n += 1
        def f(): Counted(); Counted(); return Counted.n
        """,
        "submit(f)",
        "result == 2",
    ),
    _idiom(
        "a subclass of dict, list and int",
        """
        class D(dict):
            def __missing__(self, key): return key * 2
        class L(list): pass
        class N(int):
            def plus(self): return N(self + 1)
        def f(d, l, n): return d[4], L(l + [1]), n.plus(), d
        """,
        "submit(f, D(a=1), L([0]), N(5))",
        "result[0] == 8 and result[1] == [0, 1] and type(result[1]) is L "
        "and type(result[2]) is N and result[2] == 6 "
        "and type(result[3]) is D and result[3]['a'] == 1",
    ),
    _idiom(
        "a linked structure with a cycle",
        """
        class Node:
            def __init__(self): self.next = None
        a, b = Node(), Node()
        a.next, b.next = b, a
        def f(n): return n.next.next is n, n
        """,
        "submit(f, a)",
        "result[0] and result[1].next.next is result[1]",
    ),
)

EXCEPTIONS: Final = (
    _idiom(
        "an exception of the notebook is caught as itself",
        """
        class Bad(ValueError): pass
        def f(): raise Bad('no')
        def caught():
            try: submit(f)
            except Bad as error: return type(error) is Bad, str(error)
        """,
        "caught()",
        "result == (True, 'no')",
    ),
    _idiom(
        "an exception whose __init__ takes other arguments",
        """
        class Bad(Exception):
            def __init__(self, code, *, detail):
                super().__init__(f'{code}: {detail}')
                self.code, self.detail = code, detail
        def f(): raise Bad(3, detail='x')
        def caught():
            try: submit(f)
            except Bad as error: return error.code, error.detail, str(error)
        """,
        "caught()",
        "result == (3, 'x', '3: x')",
    ),
    _idiom(
        "a cause and notes",
        """
        def f():
            try: 1 / 0
            except ZeroDivisionError as error:
                other = KeyError('k')
                other.add_note('look here')
                raise other from error
        def caught():
            try: submit(f)
            except KeyError as error: return error.__notes__, type(error.__cause__).__name__
        """,
        "caught()",
        "result == (['look here'], 'ZeroDivisionError')",
    ),
    _idiom(
        "an exception group",
        """
        class Mine(Exception): pass
        def f(): raise ExceptionGroup('many', [Mine(1), ValueError(2)])
        def run():
            found = []
            try: submit(f)
            except* Mine as group: found += [type(e) for e in group.exceptions]
            except* ValueError as group: found += [type(e) for e in group.exceptions]
            return found
        """,
        "run()",
        "result == [Mine, ValueError]",
    ),
    _idiom(
        "an operating system error",
        """
        def f(): open('/no/such/file')
        def caught():
            try: submit(f)
            except FileNotFoundError as error: return error.errno, error.filename
        """,
        "caught()",
        "result == (2, '/no/such/file')",
    ),
    _idiom(
        "an exception as a dataclass",
        """
        from dataclasses import dataclass
        @dataclass
        class Failure(Exception):
            code: int
            why: str = 'unknown'
        def f(): raise Failure(5)
        def caught():
            try: submit(f)
            except Failure as error: return error.code, error.why
        """,
        "caught()",
        "result == (5, 'unknown')",
    ),
)

STATE: Final = (
    _idiom(
        "a lock that is held at home",
        """
        import threading
        lock, rlock = threading.Lock(), threading.RLock()
        lock.acquire(); rlock.acquire()
        def f():
            with lock, rlock: return 'free'
        """,
        "submit(f)",
        "result == 'free'",
    ),
    _idiom(
        "a condition, an event, a semaphore",
        """
        import threading
        condition, event = threading.Condition(), threading.Event()
        semaphore = threading.Semaphore(2)
        event.set()
        def f():
            with condition: condition.notify_all()
            with semaphore: pass
            return event.wait(0), event.is_set()
        """,
        "submit(f)",
        "result == (True, True)",
    ),
    _idiom(
        "a queue",
        """
        import queue
        q = queue.Queue()
        q.put(1)
        def f(q): q.put(2); return [q.get(), q.get()]
        """,
        "submit(f, q)",
        "result == [1, 2]",
    ),
    _idiom(
        "a logger",
        """
        import logging
        log = logging.getLogger('mine')
        def f(): log.debug('hello'); return log.name
        """,
        "submit(f)",
        "result == 'mine'",
    ),
    _idiom(
        "a compiled pattern",
        """
        import re
        word = re.compile(r'[a-z]+')
        def f(s): return word.findall(s)
        """,
        "submit(f, 'a1b')",
        "result == ['a', 'b']",
    ),
    _idiom(
        "a context variable",
        """
        from contextvars import ContextVar
        level = ContextVar('level', default=3)
        def f():
            before = level.get(); level.set(4)
            return before, level.get()
        """,
        "submit(f)",
        "result == (3, 4)",
    ),
    _idiom(
        "a thread-local object",
        """
        import threading
        here = threading.local()
        here.x = 1
        def f(): here.y = 2; return here.y
        """,
        "submit(f)",
        "result == 2",
    ),
    _idiom(
        "a marker object as a default",
        """
        missing = object()
        def get(table, key, default=missing):
            return 'none' if table.get(key, default) is missing else 'some'
        """,
        "(submit(get, {}, 'a'), submit(get, {'a': 1}, 'a'), submit(get, {}, 'a', missing))",
        "result == ('none', 'some', 'none')",
    ),
    _idiom(
        "random numbers are not the same twice",
        """
        import random
        from random import random as draw
        def f(): return draw(), random.random()
        """,
        "[submit(random.random), submit(random.random), submit(draw), *submit(f)]",
        "len(set(result)) == 5",
    ),
    _idiom(
        "numpy's global generator is not sent",
        """
        import numpy as np
        """,
        "[submit(np.random.rand), submit(np.random.rand)]",
        "result[0] != result[1]",
    ),
    _idiom(
        "a seeded generator is sent as it is",
        """
        import random
        rng = random.Random(3)
        expected = random.Random(3).random()
        def f(): return rng.random()
        """,
        "submit(f)",
        "result == expected",
    ),
    _idiom(
        "weak references",
        """
        import weakref
        class Thing: pass
        class Cache:
            def __init__(self):
                self.keep = Thing()
                self.known = weakref.WeakValueDictionary(a=self.keep)
                self.one = weakref.ref(self.keep)
        def f(c): return c.known['a'] is c.keep, c.one() is c.keep
        """,
        "submit(f, Cache())",
        "result == (True, True)",
    ),
    _idiom(
        "print to the standard output by default",
        """
        import sys
        def f(out=sys.stdout): print('', end='', file=out); return out is sys.stdout
        """,
        "submit(f)",
        "result is True",
    ),
)

DATA: Final = (
    _idiom(
        "a list that is changed between two calls",
        """
        data = [1]
        def f(): return sum(data)
        def both():
            first = submit(f)
            data.append(5)
            return first, submit(f)
        """,
        "both()",
        "result == (1, 6)",
    ),
    _idiom(
        "a constant that is rebound between two calls",
        """
        k = 1
        def f(): return k
        def both():
            global k
            first = submit(f)
            k = 2
            return first, submit(f)
        """,
        "both()",
        "result == (1, 2)",
    ),
    _idiom(
        "paths, decimals, dates, sets, ranges",
        """
        import datetime, decimal, pathlib, uuid
        def f(*things): return things
        things = (pathlib.Path('a') / 'b', decimal.Decimal('1.5'), datetime.date(2020, 1, 2),
                  {1, 2}, range(3), uuid.UUID(int=1), frozenset('ab'), 1j, b'x', ..., slice(1, 2))
        """,
        "submit(f, *things)",
        "result == things",
    ),
    _idiom(
        "collections",
        """
        from collections import Counter, OrderedDict, defaultdict, deque, ChainMap
        groups = defaultdict(lambda: [0])
        groups['a'].append(1)
        def f(g):
            chain = ChainMap({"x": 1})
            return g["b"], Counter("aab"), deque([1], maxlen=2), OrderedDict(a=1), chain
        """,
        "submit(f, groups)",
        "result[0] == [0] and result[1]['a'] == 2 and result[2].maxlen == 2 "
        "and result[4]['x'] == 1",
    ),
    _idiom(
        "views of a dictionary",
        "table = {'a': 1}\ndef f(keys): return sorted(keys)",
        "submit(f, table.keys())",
        "result == ['a']",
    ),
    _idiom(
        "itertools in a task",
        """
        import itertools
        def f(n): return list(itertools.islice(itertools.count(), n))
        """,
        "submit(f, 3)",
        "result == [0, 1, 2]",
    ),
    _idiom(
        "an operator object",
        "from operator import itemgetter, attrgetter",
        "submit(itemgetter('a'), {'a': 1})",
        "result == 1",
    ),
    _idiom(
        "a type alias",
        """
        from typing import Optional, Union
        class Foo: pass
        Alias = dict[str, list[Foo]]
        Maybe = Optional[Foo]
        Either = int | Foo
        def f():
            return Alias.__args__[0], isinstance(Foo(), Either), Maybe.__args__[0] is Foo, Either
        """,
        "submit(f)",
        "result == (str, True, True, int | Foo)",
    ),
    _idiom(
        "a new type and type variables",
        """
        from typing import NewType, TypeVar
        UserId = NewType('UserId', int)
        T = TypeVar('T', bound=int)
        def f(x: T) -> UserId: return UserId(x + 1), T
        """,
        "submit(f, 1)",
        "result[0] == 2 and result[1] is T",
    ),
    _idiom(
        "an array",
        "import numpy as np\nxs = np.arange(10.0)\ndef f(k): return (xs * k).sum()",
        "submit(f, 2)",
        "result == 90.0",
    ),
    _idiom(
        "a large array there and back",
        "import numpy as np\nbig = np.arange(1_000_000)\ndef f(a): return a + 1",
        "submit(f, big)",
        "(result == big + 1).all()",
    ),
    _idiom(
        "a vectorised function",
        "import numpy as np\n@np.vectorize\ndef f(x): return x * 2",
        "submit(f, [1, 2])",
        "list(result) == [2, 4]",
    ),
    _idiom(
        "a data frame",
        """
        import pandas as pd
        frame = pd.DataFrame({'a': [1, 2, 2], 'b': [3.0, 4.0, 5.0], 'c': ['x', 'y', 'y']})
        def f(df): return df.groupby('a').b.sum()
        """,
        "submit(f, frame)",
        "result.to_dict() == {1: 3.0, 2: 9.0}",
    ),
    _idiom(
        "a data frame with apply and a global",
        """
        import pandas as pd
        rate = 2
        frame = pd.DataFrame({'a': [1, 2]})
        def f(): return frame.a.apply(lambda x: x * rate).tolist()
        """,
        "submit(f)",
        "result == [2, 4]",
    ),
    _idiom(
        "a scikit-learn model",
        """
        from sklearn.linear_model import LinearRegression
        def fit(xs, ys): return LinearRegression().fit(xs, ys)
        """,
        "submit(fit, [[1], [2]], [2, 4])",
        "round(result.predict([[3]])[0]) == 6",
    ),
    _idiom(
        "a module made by hand",
        """
        import types
        tools = types.ModuleType('tools')
        exec('factor = 3\\ndef triple(x): return factor * x', tools.__dict__)
        def f(x): return tools.triple(x)
        """,
        "submit(f, 2)",
        "result == 6",
    ),
    _idiom(
        "a deep list",
        "deep = []\nfor _ in range(100): deep = [deep]\ndef f(x): return len(x)",
        "submit(f, deep)",
        "result == 1",
    ),
    _idiom(
        "an object that answers every question with an error",
        """
        class Shy:
            def __init__(self): self.x = 1
            def __getattr__(self, name):
                if name.startswith('__') and name != '__wrapped__': raise AttributeError(name)
                raise RuntimeError(name)
        shy = Shy()
        def f(): return shy.x
        """,
        "submit(f)",
        "result == 1",
    ),
    _idiom(
        "a code object",
        "code = compile('1 + 2', '<s>', 'eval')\ndef f(): return eval(code)",
        "submit(f)",
        "result == 3",
    ),
)

REFUSED: Final = (
    _refused(
        "an open file",
        "import os\nhandle = open(os.devnull)\ndef f(): return handle.read()",
        "submit(f)",
        "f -> global 'handle' -> _io.TextIOWrapper",
    ),
    _refused(
        "a generator as an argument",
        "def f(x): return list(x)",
        "submit(f, (i for i in range(3)))",
        "args[0] -> generator",
    ),
    _refused(
        "a database connection",
        """
        import sqlite3
        class Store:
            def __init__(self): self.db = sqlite3.connect(':memory:')
            def rows(self): return []
        """,
        "submit(Store().rows)",
        "attribute 'db' -> sqlite3.Connection",
    ),
    _refused(
        "a running thread",
        "import threading\ndef f(t): return t.name",
        "submit(f, {'a': [threading.current_thread()]})",
        "args[0] -> key 'a' -> item 0 -> threading._MainThread",
    ),
    _refused(
        "a socket in a closure",
        """
        import socket
        def make():
            conn = socket.socket()
            def send(): return conn
            return send
        """,
        "submit(make())",
        "send -> closure 'conn' -> socket.socket",
    ),
    _refused(
        "an object whose pickling never ends",
        """
        class Endless:
            def __reduce__(self): return Endless, (Endless(),)
        """,
        "submit(lambda x: x, Endless())",
        "args[0]",
    ),
    _refused(
        "an object whose pickling raises",
        """
        class Broken:
            def __getstate__(self): raise OSError('disk')
        """,
        "submit(lambda x: x, 1, x=[Broken()])",
        "kwargs['x'] -> item 0",
    ),
)

IDIOMS: Final = (*FUNCTIONS, *CLASSES, *EXCEPTIONS, *STATE, *DATA, *REFUSED)
