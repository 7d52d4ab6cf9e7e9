"""A headless Chromium for tests of pages: started, spoken to by its DevTools protocol, and driven by real clicks and drags."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from tornado.websocket import WebSocketClientConnection, websocket_connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
    "--window-size=1420,1050",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


def chromium() -> str:
    """Return where the browser is; skip where there is none, fail where CI requires one."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        reason = "no Chromium: apt-get install chromium (Debian)"
        if os.environ.get("HUNCH_REQUIRE_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


class Browser:
    """A browser with one page. asked: the addresses that the page asked for; said: what its scripts complained about."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="hunch_chromium_", ignore_cleanup_errors=True)
        command = [chromium(), *OPTIONS, f"--user-data-dir={self.folder.name}", "about:blank"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.loop = asyncio.new_event_loop()
        self.number = 0
        self.asked: list[str] = []
        self.said: list[str] = []
        try:
            self.socket = self.loop.run_until_complete(self.connected())
            for domain in ("Page", "Runtime", "Network", "Log"):
                self.call(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    async def connected(self) -> WebSocketClientConnection:
        """Return the connection to the page, once the browser says its port."""
        told = Path(self.folder.name) / "DevToolsActivePort"
        until = time.monotonic() + 60
        while not (told.exists() and told.read_text().count("\n")):
            assert self.process.poll() is None, "Chromium ended at once"
            assert time.monotonic() < until, "Chromium did not begin"
            await asyncio.sleep(0.1)
        port = told.read_text().splitlines()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=20) as answer:
            pages = [target for target in json.load(answer) if target["type"] == "page"]
        return await websocket_connect(pages[0]["webSocketDebuggerUrl"], max_message_size=2**26)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        self.number += 1
        number = self.number

        async def exchange() -> dict[str, Any]:
            await self.socket.write_message(json.dumps({"id": number, "method": method, "params": parameters}))
            while True:
                message = json.loads(await asyncio.wait_for(self.socket.read_message(), 60) or "{}")
                if message.get("id") == number:
                    assert "error" not in message, message["error"]
                    return dict(message["result"])
                self.note(message)

        return self.loop.run_until_complete(exchange())

    def note(self, message: dict[str, Any]) -> None:
        """Keep what the page asked for, and what it complained about."""
        parameters = message.get("params", {})
        if message.get("method") == "Network.requestWillBeSent":
            self.asked.append(parameters["request"]["url"])
        elif message.get("method") == "Network.webSocketCreated":
            self.asked.append(parameters["url"])
        elif message.get("method") == "Runtime.exceptionThrown":
            self.said.append(json.dumps(parameters["exceptionDetails"])[:500])
        elif message.get("method") == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.said.append(json.dumps(parameters["entry"])[:500])
        elif message.get("method") == "Page.javascriptDialogOpening":
            self.said.append(f"dialog: {parameters['message']}")

    def value(self, expression: str) -> Any:
        """Return the value of an expression of the page's."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, expression: str, *, seconds: float = 60) -> Any:
        """Return the value of an expression once it is true."""
        until = time.monotonic() + seconds
        while True:
            found = self.value(f"(() => {{ try {{ return {expression} }} catch (error) {{ return null }} }})()")
            if found:
                return found
            assert time.monotonic() < until, f"never true: {expression}; {self.said}"
            time.sleep(0.05)

    def press(self, kind: str, x: float, y: float, **more: Any) -> None:
        """Move or press the mouse."""
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def click(self, x: float, y: float) -> None:
        """Click at a place of the window."""
        self.press("mouseMoved", x, y)
        self.press("mousePressed", x, y, button="left", buttons=1, clickCount=1)
        self.press("mouseReleased", x, y, button="left", buttons=0, clickCount=1)

    def drag(self, begin: tuple[float, float], end: tuple[float, float]) -> None:
        """Drag from a place of the window to another."""
        self.press("mouseMoved", *begin)
        self.press("mousePressed", *begin, button="left", buttons=1, clickCount=1)
        for k in range(1, 9):
            x, y = (a + (b - a) * k / 8 for a, b in zip(begin, end, strict=True))
            self.press("mouseMoved", x, y, button="left", buttons=1)
        self.press("mouseReleased", *end, button="left", buttons=0, clickCount=1)

    def screenshot(self, path: Path) -> None:
        """Write what the window shows as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        """End the browser."""
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.loop.close()
        self.folder.cleanup()
