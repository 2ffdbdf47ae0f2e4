"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import tempfile
from importlib import metadata
from pathlib import Path

import psutil
import zmq

LIBRARIES = ("pyzmq", "msgspec", "dill", "numpy", "psutil")


def describe() -> dict[str, str]:
    """Return the machine, the system and the libraries, ready to print."""
    load = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    facts = {
        "cpu": cpu_model(),
        "cores": f"{len(psutil.Process().cpu_affinity() or [])} of {os.cpu_count()}",
        "memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "files on": file_system(tempfile.gettempdir()),
        "libzmq": zmq.zmq_version(),
        "load before": load,
    }
    for library in LIBRARIES:
        try:
            facts[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            facts[library] = "missing"
    return facts


def file_system(path: str) -> str:
    """Return the type of the file system that holds ``path``: the journal lies on it."""
    mounts = [
        part
        for part in psutil.disk_partitions(all=True)
        if os.path.commonpath([part.mountpoint, path]) == part.mountpoint
    ]
    deepest = max(mounts, key=lambda part: len(part.mountpoint), default=None)
    return deepest.fstype if deepest else "unknown"


def cpu_model() -> str:
    """Return the processor's name as the kernel gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    for line in lines:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
