"""Real IPython kernels for tests, as JupyterLab would start them."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

ROOT: Final = Path(__file__).parents[2]
READY_S: Final = 60
#: Versions of ipykernel to try: that of this environment, and those that lie beside it.
BESIDE: Final = Path(sys.prefix) / "kernels"
NEWEST: Final = "newest"
VERSIONS: Final = (NEWEST, *sorted(path.name for path in BESIDE.glob("*.*")))


class Kernel:
    """One kernel and a client of it."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self._manager = manager
        self._client = client

    def run(self, code: str, timeout: float = 60) -> str:
        """Run a cell and return what it prints.

        Raises
        ------
        AssertionError
            If it raises.
        """
        printed: list[str] = []

        def take(message: dict[str, Any]) -> None:
            if message["msg_type"] == "stream":
                printed.append(message["content"]["text"])

        # A kernel turns away what comes within a moment of a cell that failed: send it again.
        status = "aborted"
        deadline = time.monotonic() + timeout
        while status == "aborted" and time.monotonic() < deadline:
            reply = self._client.execute_interactive(
                code, store_history=False, output_hook=take, timeout=timeout
            )
            content = reply["content"]
            status = content["status"]
        assert content["status"] == "ok", "\n".join(content.get("traceback", ()))
        return "".join(printed)

    def displays(self, code: str, timeout: float = 60) -> list[dict[str, Any]]:
        """Run a cell and return what is shown meanwhile, in order: the contents of messages.

        Updates have ``"update": True``.
        """
        found: list[dict[str, Any]] = []
        kinds = ("display_data", "update_display_data", "execute_result")

        def take(message: dict[str, Any]) -> None:
            if message["msg_type"] in kinds:
                is_update = message["msg_type"] == "update_display_data"
                found.append(message["content"] | {"update": is_update})

        reply = self._client.execute_interactive(code, output_hook=take, timeout=timeout)
        content = reply["content"]
        assert content["status"] == "ok", "\n".join(content.get("traceback", ()))
        return found

    def next_update(self, timeout: float = 10) -> dict[str, Any]:
        """Return the next update of a display that comes while no cell runs."""
        while True:
            message = self._client.get_iopub_msg(timeout=timeout)
            if message["msg_type"] == "update_display_data":
                content: dict[str, Any] = message["content"]
                return content

    def value(self, expression: str) -> Any:
        """Return the value of an expression, which must be plain data."""
        return json.loads(self.run(f"import json; print(json.dumps({expression}))"))

    def begin(self, code: str) -> str:
        """Have a cell run, and do not wait for it."""
        cell: str = self._client.execute(code, store_history=False)
        return cell

    def outcome(self, cell: str, timeout: float = 30) -> dict[str, Any]:
        """Return how a cell that was begun has ended."""
        while True:
            reply = self._client.get_shell_msg(timeout=timeout)
            if reply["parent_header"].get("msg_id") == cell:
                content: dict[str, Any] = reply["content"]
                return content

    def interrupt(self) -> None:
        """Do what the Stop button does."""
        self._manager.interrupt_kernel()

    def restart(self) -> None:
        """Do what the restart button does to a busy kernel."""
        self._manager.restart_kernel(now=True)
        self._client.wait_for_ready(timeout=READY_S)


@contextmanager
def kernel(cwd: Path, version: str = NEWEST) -> Iterator[Kernel]:
    """Run a kernel in a folder; ``version``: one of `VERSIONS`."""
    beside = None if version == NEWEST else str(BESIDE / version)
    path = os.pathsep.join(filter(None, [beside, str(ROOT), os.environ.get("PYTHONPATH")]))
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=str(cwd), env=os.environ | {"PYTHONPATH": path})
    client = manager.client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=READY_S)
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        client.context.term()
