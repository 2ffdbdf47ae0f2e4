"""An engine: a supervisor, which runs no user code, and its executors, which run nothing else."""
