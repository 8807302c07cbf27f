"""`crsweep view`: a local web page for a sweep folder."""

from __future__ import annotations

import importlib.util
import socket
import sys
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from agents.core.errors import UsageError
from analysis.results import sweep_at
from runner.core.titles import TitlesInBackground
from sweeps.storage.folder import Folder, folder_at
from workers.results import lease

ADDRESS = "127.0.0.1"
PORT = 8765
"""The default port, if it is free and no other is requested."""


def show_viewer(where: str, *, port: int | None, browser: bool, console: Console) -> None:
    """Serves the pages until Ctrl-C. Raises UsageError and StoreError."""
    for library in ("starlette", "uvicorn"):
        if importlib.util.find_spec(library) is None:
            raise UsageError(
                f"crsweep view needs {library}: {sys.executable} -m pip install -e '.[view]'"
            )
    import uvicorn

    from analysis.viewer.app import Viewer, make_app

    folder = folder_at(where)
    titles = _titles(folder)
    viewer = Viewer(folder, lambda: _holder(folder), titles=titles)
    with _listening(port) as listener:
        port = listener.getsockname()[1]
        hosts = [f"{name}:{port}" for name in (ADDRESS, "localhost")]
        config = uvicorn.Config(
            make_app(viewer, hosts),
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            timeout_graceful_shutdown=1,
        )
        address = f"http://{ADDRESS}:{port}/"
        console.print(f"{viewer.index.manifest.name}: {address} (Ctrl-C stops it)", markup=False)
        console.file.flush()  # a reader of a pipe waits for the address
        if browser:
            webbrowser.open(address)
        try:
            uvicorn.Server(config).run(sockets=[listener])
        except KeyboardInterrupt:
            return  # that is how it is ended


def _titles(folder: Folder) -> TitlesInBackground:
    """Item titles of the plan, as far as the data can be read on this machine."""
    return TitlesInBackground(sweep_at(folder)[1])


def _holder(folder: Folder) -> str | None:
    """Describes who runs the sweep. Reads the lease without taking it."""
    held = lease.holder(folder)
    return lease.holding(held) if held else None


@contextmanager
def _listening(port: int | None) -> Iterator[socket.socket]:
    """A socket on the loopback interface; without a `port`, any if the usual one is taken."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with listener:
        try:
            listener.bind((ADDRESS, PORT if port is None else port))
        except OSError as error:
            if port is not None:
                raise UsageError(
                    f"--port {port} cannot be used: {error.strerror}; leave it out to use any "
                    "free port"
                ) from None
            listener.bind((ADDRESS, 0))
        listener.listen()  # from when the address is printed, connections wait for the server
        yield listener
