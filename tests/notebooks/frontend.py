"""The browser's side of the live view, without a browser."""

from __future__ import annotations

import time
from collections.abc import Callable
from queue import Empty
from typing import Any, Final

from nbcluster.notebook.view.store import Message
from tests.notebooks.kernels import Kernel
from tests.unit.notebook.feeding import Reader

WIDGET: Final = "application/vnd.jupyter.widget-view+json"


class FrontEnd:
    """Takes in what a kernel tells the live view that it shows, and answers."""

    def __init__(self, kernel: Kernel) -> None:
        self._client = kernel._client
        self._subshell = ""
        self.comm = ""  #: of the live view
        self.pages: list[dict[str, Any]] = []  #: heads of the messages with rows
        self.said: list[dict[str, Any]] = []  #: other messages
        self.shown: dict[str, Any] = {}  #: the last bundle of the view
        self.reader = Reader()
        self.is_listening = True  #: takes rows in

    @property
    def counts(self) -> dict[str, int]:
        """The counts that were told last."""
        counts: dict[str, int] = self.pages[-1]["counts"] if self.pages else {}
        return counts

    def open_subshell(self) -> None:
        """Have messages of widgets taken in while a cell runs, as ipykernel can from 7 on."""
        client = self._client
        message = client.session.msg("create_subshell_request", {})
        client.control_channel.send(message)
        while not self._subshell:
            reply = client.get_control_msg(timeout=10)
            if reply["parent_header"].get("msg_id") == message["header"]["msg_id"]:
                self._subshell = reply["content"]["subshell_id"]

    def say(self, **content: Any) -> None:
        """Send a message to the view."""
        data = {"method": "custom", "content": content}
        message = self._client.session.msg("comm_msg", {"comm_id": self.comm, "data": data})
        if self._subshell:
            message["header"]["subshell_id"] = self._subshell
        self._client.shell_channel.send(message)

    def read_until(self, is_over: Callable[[], object], timeout: float = 20) -> None:
        """Take messages in until ``is_over()``.

        Raises
        ------
        AssertionError
            If it is not within ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        while not is_over():
            assert time.monotonic() < deadline, (self.pages[-1:], self.said[-3:])
            self._read(0.1)

    def read_for(self, seconds: float) -> None:
        """Take in whatever comes within so many seconds."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._read(0.05)

    def _read(self, timeout: float) -> None:
        try:
            message = self._client.get_iopub_msg(timeout=timeout)
        except Empty:
            return
        content = message["content"]
        if message["msg_type"] == "comm_open" and "_esm" in content["data"].get("state", {}):
            self.comm = content["comm_id"]
        elif message["msg_type"] in ("display_data", "update_display_data"):
            self.shown = content["data"]
        elif message["msg_type"] == "comm_msg" and content["comm_id"] == self.comm:
            said = content["data"].get("content", {})
            if said.get("type") != "rows":
                self.said.append(said)
            elif self.is_listening:
                self.pages.append(said)
                self.reader.take([Message(said, bytes(message["buffers"][0]))])
