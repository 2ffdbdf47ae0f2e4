"""CPython's own tests of executors, found where the interpreter has them and run against ours."""
