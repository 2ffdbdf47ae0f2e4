"""The master: the one process that owns all state. A shell round the core."""
