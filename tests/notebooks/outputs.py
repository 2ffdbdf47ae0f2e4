"""What a cell of a real kernel puts below itself, and what becomes of it later."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from queue import Empty
from typing import Any, Final

from tests.notebooks.kernels import Kernel

_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Outputs:
    """All outputs of one cell, as a front end would show them."""

    status: str = ""
    stdout: str = ""
    stderr: str = ""
    ename: str = ""
    error: str = ""  #: as it is shown, without colours
    bundles: list[dict[str, Any]] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)
    updates: int = 0
    ids: dict[str, int] = field(default_factory=dict)  #: display_id -> place in ``bundles``

    def take(self, message: dict[str, Any]) -> None:
        """Take in a message of the kernel."""
        content = message["content"]
        match message["msg_type"]:
            case "stream":
                name = content["name"]
                setattr(self, name, getattr(self, name) + content["text"])
            case "display_data":
                display_id = content.get("transient", {}).get("display_id")
                if display_id:
                    self.ids[display_id] = len(self.bundles)
                self.bundles.append(content["data"])
            case "update_display_data":
                self.updates += 1
                place = self.ids.get(content["transient"]["display_id"])
                if place is not None:
                    self.bundles[place] = content["data"]
            case "execute_result":
                self.result = content["data"]
            case "clear_output":
                self.stdout = self.stderr = ""
                self.bundles.clear()
            case "error":
                self.ename = content["ename"]
                self.error = _COLOURS.sub("", "\n".join(content["traceback"]))

    @property
    def text(self) -> str:
        """All that is shown as text/plain."""
        return "\n".join(str(data.get("text/plain", "")) for data in self.bundles)


def execute(ipython: Kernel, code: str, timeout: float = 60) -> Outputs:
    """Run a cell to its end, whatever that is; it counts in the history."""
    outputs = Outputs(status="aborted")
    deadline = time.monotonic() + timeout
    # A kernel turns away what comes within a moment of a cell that failed: send it again.
    while outputs.status == "aborted" and time.monotonic() < deadline:
        outputs = Outputs()
        reply = ipython._client.execute_interactive(
            code, output_hook=outputs.take, timeout=timeout, allow_stdin=False
        )
        outputs.status = reply["content"]["status"]
    return outputs


def follow(ipython: Kernel, outputs: Outputs, until: Any, timeout: float = 20) -> None:
    """Take in what comes, with no cell running or with another one, until ``until()``."""
    deadline = time.monotonic() + timeout
    while not until():
        assert time.monotonic() < deadline, str(outputs)[:2_000]
        try:
            message = ipython._client.get_iopub_msg(timeout=0.1)
        except Empty:
            continue
        outputs.take(message)
