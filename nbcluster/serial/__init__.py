"""Pickling: functions, arguments and results between notebook and executors."""
