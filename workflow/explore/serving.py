"""The server of the page: on this machine alone, under an address that nobody else knows, without the network."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import secrets
import socket
import tempfile
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path

from bokeh.application import Application
from bokeh.application.handlers import FunctionHandler
from bokeh.document import Document
from bokeh.server.server import BaseServer
from bokeh.server.tornado import BokehTornado
from bokeh.settings import settings
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop

from ...errors import HunchError
from ...files import write_reason

__all__ = ["HOST", "opened_in_browser", "serve"]

HOST = "127.0.0.1"
LAST = 5.0
"""Seconds that open connections are waited for at the end."""
HIDDEN = 24
"""Random bytes in the address: other users of the machine can reach the port, and not the page."""


def serve(make: Callable[[Document, int], None], *, port: int, ready: Callable[[str], None]) -> None:
    """Serve a page until interrupted.

    make: puts the page of one visitor on a document, of a server with a port; port: 0 for a free one; ready: called with the address.
    Raises HunchError where the port cannot be taken.
    """
    settings.resources = "server"  # whatever the environment says: nothing comes from elsewhere
    for name in ("bokeh", "tornado.access"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        own_socket = socket.create_server((HOST, port))
    except OSError as error:
        why = "in use by another program" if error.errno == errno.EADDRINUSE else write_reason(error)
        raise HunchError(f"--port {port}: {why}; --port 0 takes one that is free") from error
    own_socket.setblocking(False)
    taken = int(own_socket.getsockname()[1])
    token = secrets.token_urlsafe(HIDDEN)
    asyncio.set_event_loop(asyncio.new_event_loop())
    loop = IOLoop.current()
    own = BokehTornado(
        {"/": Application(FunctionHandler(lambda document: make(document, taken)))},
        prefix=f"/{token}",
        extra_websocket_origins=[f"{HOST}:{taken}", f"localhost:{taken}"],
    )
    http = HTTPServer(own)
    http.add_socket(own_socket)
    server = BaseServer(loop, own, http)
    server.start()
    try:
        ready(f"http://{HOST}:{taken}/{token}/")
        loop.start()
    finally:
        server.stop(wait=False)
        http.stop()
        loop.run_sync(http.close_all_connections, timeout=LAST)
        asyncio.set_event_loop(None)
        loop.close(all_fds=True)


@contextlib.contextmanager
def opened_in_browser(address: str) -> Iterator[None]:
    """Open an address in the browser by a private file that leads to it: a command line can be read by all users of the machine."""
    with tempfile.TemporaryDirectory(prefix="hunch_explore_") as folder:
        page = Path(folder) / "open.html"
        page.write_text(f'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={address}">')
        webbrowser.open(page.as_uri())
        yield
