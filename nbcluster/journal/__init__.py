"""The journal: what the master has made durable, and how it is rebuilt from it."""

from nbcluster.journal.journal import RETAIN, Journal
from nbcluster.journal.memory import MemoryDisk, MemoryJournal
from nbcluster.journal.replay import Sink, touched
from nbcluster.journal.rows import Header, Turn
from nbcluster.journal.tools import info, vacuum

__all__ = [
    "RETAIN",
    "Header",
    "Journal",
    "MemoryDisk",
    "MemoryJournal",
    "Sink",
    "Turn",
    "info",
    "touched",
    "vacuum",
]
