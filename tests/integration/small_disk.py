"""Runs a program that has a disk of 2 MB to itself, which it can fill."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

#: "$0" is the folder that becomes the disk, "$@" the command that finds it there.
_MOUNT: Final = 'mount -t tmpfs -o size=2m,mode=700 none "$0" || exit 77; exec "$@"'


def run_on_a_small_disk(program: str, disk: Path, name: str) -> tuple[dict[str, str], str]:
    """Run a program with a small disk mounted on a folder; skip the test where that cannot be.

    Parameters
    ----------
    program
        Code; ``sys.argv[1:]`` are ``disk`` and ``name``. It prints lines of ``what: text``.
    disk
        The folder. Nobody else sees the disk.
    name
        Of the cluster that the program starts.

    Returns
    -------
        The text of each ``what``, and all output, to be shown if the test fails.
    """
    unshare = shutil.which("unshare")
    if unshare is None or os.geteuid() != 0:
        pytest.skip("a small disk can be mounted by root only")
    script = [sys.executable, "-c", program, str(disk), name]
    done = subprocess.run(
        [unshare, "-m", "sh", "-c", _MOUNT, str(disk), *script],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("mounting is not permitted here")
    said = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    return said, done.stdout + done.stderr
