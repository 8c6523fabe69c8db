"""A real browser for tests: Chromium over its DevTools pipe, with nothing between it and the test."""

import base64
import json
import os
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)


class Browser:
    """One page; what it says on the console, throws or asks the network for is kept in `noted`."""

    def __init__(self, profile: Path, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()

        def place() -> None:  # the pipe's ends are 3 and 4 by Chromium's definition
            spare = os.dup(to_read), os.dup(to_write)
            os.dup2(spare[0], 3)
            os.dup2(spare[1], 4)

        command = [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
            "--no-first-run", "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            command, preexec_fn=place, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(to_read)
        os.close(to_write)
        self._buffer, self._number = b"", 0
        self.noted: list[str] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = ""
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._call(f"{domain}.enable")
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", **metrics)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self._call("Emulation.setEmulatedMedia", features=scheme)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        for end in (self._read, self._write):
            with suppress(OSError):
                os.close(end)

    def _call(self, method: str, **given: Any) -> Any:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": given}
        if getattr(self, "_session", ""):
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer}"
                return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._read, 1 << 16)
            assert part, "the browser has gone"
            self._buffer += part
        text, self._buffer = self._buffer.split(b"\0", 1)
        message: dict[str, Any] = json.loads(text)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, method: str, given: dict[str, Any]) -> None:
        match method:
            case "Runtime.consoleAPICalled" if given["type"] in ("error", "warning", "assert"):
                self.noted.append(f"console: {[arg.get('value') for arg in given['args']]}")
            case "Runtime.exceptionThrown":
                details = given["exceptionDetails"]
                self.noted.append(f"exception: {details['text']} {details.get('exception', {}).get('description')}")
            case "Log.entryAdded" if given["entry"]["level"] in ("error", "warning"):
                self.noted.append(f"log: {given['entry']['text']}")
            case "Network.requestWillBeSent" if not given["request"]["url"].startswith(("data:", "blob:")):
                self.noted.append(f"request: {given['request']['url']}")

    def open(self, page: Path) -> None:
        """Opens a page from disk; the request for itself is not noted."""
        self._call("Page.navigate", url=page.as_uri())
        self.wait("document.readyState === 'complete'")
        self.noted = [each for each in self.noted if each != f"request: {page.as_uri()}"]

    def run(self, script: str) -> Any:
        """The value of an expression in the page; a promise is awaited."""
        given = {"expression": script, "awaitPromise": True, "returnByValue": True, "userGesture": True}
        answer = self._call("Runtime.evaluate", **given)
        assert "exceptionDetails" not in answer, f"{script}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    def move(self, x: float, y: float) -> None:
        """The mouse, to a place in the window."""
        self._call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def wait(self, condition: str, within_s: float = 60.0) -> None:
        """Until an expression is true."""
        deadline = time.monotonic() + within_s
        while not self.run(f"Boolean({condition})"):
            assert time.monotonic() < deadline, f"never: {condition}; noted: {self.noted}"
            time.sleep(0.05)

    def draw_all(self) -> None:
        """Scrolls through the page, so that everything that is drawn when seen has been."""
        self.wait("document.documentElement.dataset.ready === 'yes'")
        step = "scrollTo(0, y); await new Promise((go) => setTimeout(go, 60));"
        loop = f"for (let y = 0; y < document.body.scrollHeight; y += 500) {{ {step} }}"
        self.run(f"(async () => {{ {loop} scrollTo(0, 0); }})()")
        self.wait("[...document.querySelectorAll('.plot')].every((p) => p.dataset.drawn || !p.offsetParent)")
        self.run("new Promise((go) => setTimeout(go, 300))")

    def picture(self, path: Path, top: float = 0.0, height: float = 0.0) -> None:
        """A PNG of the whole page, or of a strip of it."""
        size = self._call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": top, "width": size["width"], "height": height or size["height"], "scale": 1}
        shot = self._call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))
