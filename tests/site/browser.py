"""Chromium without a window, driven over its debugging pipe by the standard library alone."""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 120.0

_KEYS = {"Tab": 9, "Enter": 13, " ": 32}


def find() -> str | None:
    """Chromium's program, or None where it is not installed."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One Chromium process; each page has a context of its own."""

    def __init__(self, program: str, profile: Path) -> None:
        to_child, self._write = os.pipe()
        self._read, from_child = os.pipe()
        options = [
            "--headless", "--remote-debugging-pipe", f"--user-data-dir={profile}", "--disable-gpu",
            "--disable-background-networking", "--disable-component-update", "--no-first-run",
            "--disable-dev-shm-usage", "--disable-sync", "--no-default-browser-check",
            "--disable-extensions", "--force-color-profile=srgb", "--hide-scrollbars",
        ]  # fmt: skip
        if os.getuid() == 0:
            options.append("--no-sandbox")  # Chromium refuses to isolate itself as root

        def place() -> None:  # in the child: its ends of the pipes are to be 3 and 4
            read, write = os.dup(to_child), os.dup(from_child)
            os.dup2(read, 3)
            os.dup2(write, 4)

        self._process = subprocess.Popen(
            [program, *options, "about:blank"],
            preexec_fn=place, close_fds=False, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_child)
        os.close(from_child)
        self._numbers = itertools.count(1)
        self._buffer = b""
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, **given: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; events that come before are kept."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": given}
        if session:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = self.receive(deadline)
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def receive(self, deadline: float) -> dict[str, Any]:
        """The next message."""
        while b"\0" not in self._buffer:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self._read], [], [], max(0.0, left))
            if not ready:
                raise TimeoutError("Chromium does not answer")
            chunk = os.read(self._read, 1 << 20)
            assert chunk, "Chromium has ended"
            self._buffer += chunk
        message, self._buffer = self._buffer.split(b"\0", 1)
        found: dict[str, Any] = json.loads(message)
        return found

    def close(self) -> None:
        with suppress(AssertionError, OSError, TimeoutError):
            self.call("Browser.close")
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._write)
        os.close(self._read)


class Page:
    """One page, with what it asked for and what it complained about.

    Attributes:
        requests: addresses.
        complaints: errors of the console, of scripts and of the network.
    """

    def __init__(self, browser: Browser, *, scripts: bool = True, dark: bool | None = None,
                 width: int = 1280, height: int = 900) -> None:  # fmt: skip
        self._browser = browser
        self._context = browser.call("Target.createBrowserContext")["browserContextId"]
        target = browser.call("Target.createTarget", url="about:blank",
                              browserContextId=self._context)["targetId"]  # fmt: skip
        attached = browser.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session: str = attached["sessionId"]
        self.requests: list[str] = []
        self.complaints: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=False)  # fmt: skip
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        if dark is not None:
            scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
            self.call("Emulation.setEmulatedMedia", features=[scheme])

    def call(self, method: str, **given: Any) -> dict[str, Any]:
        """A command to this page."""
        result = self._browser.call(method, self._session, **given)
        self._note()
        return result

    def open(self, path: Path) -> None:
        """Load a file, and wait until it is there with all that it loads."""
        self._browser.events.clear()
        self._browser.call("Page.navigate", self._session, url=path.absolute().as_uri())
        deadline = time.monotonic() + PATIENCE
        while not any(one.get("method") == "Page.loadEventFired" for one in self._browser.events):
            self._browser.events.append(self._browser.receive(deadline))
        self.call("Runtime.evaluate", expression="0")

    def ask(self, expression: str) -> Any:
        """The value of a script's expression."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True,
                           awaitPromise=True)  # fmt: skip
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release a key."""
        given = {"key": key, "code": "Space" if key == " " else key,
                 "windowsVirtualKeyCode": _KEYS[key]}  # fmt: skip
        text = {"Enter": "\r", " ": " "}.get(key)
        more = {"text": text} if text else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **given, **more)
        self.call("Input.dispatchKeyEvent", type="keyUp", **given)

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """A screenshot."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))

    def close(self) -> None:
        self._browser.call("Target.disposeBrowserContext", browserContextId=self._context)

    def _note(self) -> None:
        for one in self._browser.events:
            if one.get("sessionId") != self._session:
                continue
            method, given = one.get("method"), one.get("params", {})
            if method == "Network.requestWillBeSent":
                self.requests.append(given["request"]["url"])
            elif method == "Network.loadingFailed":
                self.complaints.append(f"not loaded: {given}")
            elif method == "Runtime.exceptionThrown":
                self.complaints.append(str(given["exceptionDetails"]))
            elif method == "Runtime.consoleAPICalled" and given["type"] in ("error", "warning"):
                self.complaints.append(str(given["args"]))
            elif method == "Log.entryAdded" and given["entry"]["level"] in ("error", "warning"):
                self.complaints.append(given["entry"]["text"])
        self._browser.events.clear()


@contextmanager
def started(program: str, profile: Path) -> Iterator[Browser]:
    """A browser that is closed at the end."""
    browser = Browser(program, profile)
    try:
        yield browser
    finally:
        browser.close()
