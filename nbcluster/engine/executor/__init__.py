"""The executor: a process in which user code runs, on its main thread."""
