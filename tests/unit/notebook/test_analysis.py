"""What a cell needs of the notebook, and what it binds."""

from __future__ import annotations

import ast
import sys
from typing import Final

import pytest

from nbcluster.notebook.analysis import names_of

#: source, what it reads
CASES: Final = [
    ("x", "x"),
    ("x=1\nx", ""),
    ("x=x+1", "x"),
    ("x+=1", "x"),
    ("if a:\n b=1\nb", "a b"),
    ("if a:\n b=1\nelse:\n b=2\nb", "a"),
    ("if a:\n b=1\nelse:\n raise E\nb", "a E"),
    ("for i in xs:\n t=i\nt", "xs t"),
    ("for i in xs: pass\ni", "xs i"),
    ("def f(): return g\n", "g"),
    ("def f(): return g\ng=1\nf()", ""),
    ("def f(): return g\nf()\ng=1", "g"),
    ("def f(): return g()\ndef g(): return h\nf()", "h"),
    ("def f(n): return f(n-1)\nf(3)", ""),
    ("[i for i in xs if i>t]", "xs t"),
    ("{k:v for k,v in d.items()}", "d"),
    ("lambda a: a+b", "b"),
    ("with open(p) as f: f.read()", "open p"),
    ("try:\n import np\nexcept ImportError:\n np=None\nnp", "ImportError"),
    ("try:\n v=f()\nexcept E as e:\n print(e)\nv", "f E print v"),
    ("class A(B):\n x=1\n y=x\n def m(self): return z", "B z"),
    ("class A:\n def m(self): return A()", ""),
    ("del x", "x"),
    ("x=1\ndel x\nx", "x"),
    ("print(y:=f(2))\ny", "print f"),
    ("match v:\n case [a,*r]: a\n case {'k':w,**q}: q\n case P(z): z\n case _: pass", "v P"),
    ("import numpy as np, os.path\nnp,os", ""),
    ("from a import b\nb", ""),
    ("a.b=c", "a c"),
    ("a[i]=c", "a i c"),
    ("x: int = 3", "int"),
    ("x: T", "T"),
    ("@d\ndef f(a=b)->R: return q", "d b R q"),
    ("await f(x)", "f x"),
    ("async for i in g(): i", "g"),
    ("f'{x!r:>{w}}'", "x w"),
    ("assert a, b", "a b"),
    ("while n:\n n-=1\n k=1\nk", "n k"),
    ("global q\nq=1\nq", ""),
    ("a=b=c", "c"),
    ("(a,*b),c=d\na,b,c", "d"),
    ("def outer():\n x=1\n def inner(): return x+y\n return inner\nouter()", "y"),
    ("del d[k]", "d k"),
]


@pytest.mark.parametrize(("source", "reads"), CASES)
def test_what_may_be_unbound_where_it_is_read_is_an_input(source: str, reads: str) -> None:
    assert set(names_of(ast.parse(source)).reads) == set(reads.split())


@pytest.mark.parametrize(
    ("source", "binds"),
    [
        ("a = b", "a"),
        ("if a:\n b = 1", "b"),
        ("for i in x:\n t = i", "i t"),
        ("import numpy as np, os.path", "np os"),
        ("with f() as (a, *b): pass", "a b"),
        ("def f(a):\n b = 1", "f"),
        ("class A:\n b = 1", "A"),
        ("print(y := 1)", "y"),
        ("[z for z in x]", ""),
        ("try:\n a = 1\nexcept E as e:\n b = 2", "a b e"),
        ("match v:\n case [a, *r]: pass", "a r"),
        ("x += 1", "x"),
        ("a.b = 1", ""),
        ("x: int", ""),
        ("def f():\n global g\n g = 1", "f g"),
    ],
)
def test_what_a_cell_binds_at_its_top_level_can_come_home(source: str, binds: str) -> None:
    assert names_of(ast.parse(source)).binds == set(binds.split())


def test_inputs_come_in_the_order_in_which_they_are_read() -> None:
    assert names_of(ast.parse("b = z\na = c + b\nq(z)")).reads == ("z", "c", "q")


def test_a_star_import_may_bind_anything() -> None:
    assert names_of(ast.parse("from math import *")).has_star
    assert not names_of(ast.parse("from math import pi")).has_star


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the syntax is of Python 3.12")
@pytest.mark.parametrize(
    ("source", "reads"),
    [
        ("def f[T](x: T) -> T: return g(x, T)", "g"),
        ("class A[T]:\n x: T\n def m(self, y: T): return q", "q"),
        ("class A[T](B[T]): pass", "B"),
        ("type X[T] = list[T] | Y\nX", "list Y"),
    ],
)
def test_type_parameters_are_no_inputs(source: str, reads: str) -> None:
    assert set(names_of(ast.parse(source)).reads) == set(reads.split())
