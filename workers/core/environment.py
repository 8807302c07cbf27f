"""Environment variables that models and folders need: checked here, and given to other nodes.

- The environment of a cluster's nodes was fixed when the cluster was started. So the driver sends
  what the sweep needs, in a message to each process, because Ray shows `runtime_env` on its
  dashboard and writes it to its logs.
- Keys and tokens are the driver's. Locations and routes (proxies, CA files, cache folders) are the
  node's own, if it has them.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import ssl
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from agents.core.errors import UsageError
from workers.core.code import ROOT, code_digest

_PROXIES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY")
_SCHEMES = ("http", "https", "socks5", "socks5h")
_ROUTES = (*_PROXIES, "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


class Variables(NamedTuple):
    """Names of environment variables.

    `secrets` belong to the person who runs the sweep (keys, tokens); `places` belong to a machine,
    if it has them. `network` means that requests are made over HTTP, so that proxies and CA files
    matter.
    """

    secrets: Sequence[str] = ()
    places: Sequence[str] = ()
    network: bool = False


@dataclass(frozen=True)
class Environment:
    """Variables of the driver for the processes of a sweep. Crosses processes; its repr shows no
    value."""

    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    places: dict[str, str] = field(default_factory=dict, repr=False)
    code: str = ""
    """The digest of the driver's code; empty if it does not matter."""

    @classmethod
    def of_here(cls, needs: Iterable[Variables]) -> Environment:
        """The needed variables that are set in this process."""
        secrets: list[str] = []
        places: list[str] = []
        for need in needs:
            secrets += need.secrets
            places += need.places
            if need.network:
                places += [name for known in _ROUTES for name in (known, known.lower())]
        return cls(_set(secrets), _set(places), code_digest())

    def take(self) -> None:
        """Sets them in this process. Raises UsageError if its code differs from the driver's."""
        if self.code and self.code != code_digest():
            raise UsageError(
                f"the node {socket.gethostname()} has different crsweep code in {ROOT} (digest "
                f"{code_digest()[:12]}) than the driver ({self.code[:12]}); submit the sweep with "
                "`crsweep submit`, which sends the code, or update the checkout on every node (if "
                "there is only one, the code was edited while the run was starting: start it again)"
            )
        for name, value in self.places.items():
            if not (os.environ.get(name) or os.environ.get(_other_case(name))):
                os.environ[name] = value
        os.environ.update(self.secrets)


def _set(names: Iterable[str]) -> dict[str, str]:
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def check_transport() -> None:
    """Raises UsageError for a variable with which no HTTP client can be created."""
    for name, value in _proxies():
        problem = _wrong_proxy(value)
        if problem is not None:
            raise UsageError(
                f"the environment variable {name} is not a usable proxy: {problem}; "
                "correct it or unset it"
            )
    for name, problem in _wrong_certificates():
        raise UsageError(
            f"the environment variable {name} names no usable CA certificates: "
            f"{problem}; correct it or unset it"
        )


def _proxies() -> Iterator[tuple[str, str]]:
    for known in _PROXIES:
        for name in (known.lower(), known):  # the first one that is set counts
            if value := os.environ.get(name, "").strip():
                yield name, value
                break


def _wrong_proxy(value: str) -> str | None:
    """What is wrong with a proxy's address, without the login that it may contain."""
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "it is not an address"
    if parts.scheme not in _SCHEMES:
        return f"the scheme {parts.scheme}:// (expected one of: {', '.join(_SCHEMES)})"
    if not host:
        return "it has no host"
    if parts.scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
        return f"the scheme {parts.scheme}:// needs the package socksio, which is not installed"
    return None


def _wrong_certificates() -> Iterator[tuple[str, str]]:
    if file := os.environ.get("SSL_CERT_FILE"):
        try:
            ssl.create_default_context(cafile=file)
        except (OSError, ssl.SSLError) as error:
            yield "SSL_CERT_FILE", f"{file}: {error.strerror or error}"
    folder = os.environ.get("SSL_CERT_DIR")
    if folder and not any(Path(part).is_dir() for part in folder.split(os.pathsep)):
        yield "SSL_CERT_DIR", f"{folder}: no such folder"


def _other_case(name: str) -> str:
    return name.upper() if name.islower() else name.lower()
