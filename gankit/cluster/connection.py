"""The connection to Ray: whether an address answers, and a Ray of this machine's own.

Ray itself waits for minutes and prints what it waits for. So a socket is asked first, and then a process that may end.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gankit.errors import UserError

LOCAL, CLIENT = "local", "ray://"
PATIENCE = 4.0  # seconds for a socket
TRY = 30.0  # seconds for Ray at an address that answers; a busy machine takes many
# The first words of HTTP/2, which all of Ray's servers speak, and an empty frame of settings; such a frame comes back.
HELLO, SETTINGS = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0", 4
QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
PROBE = f"import sys, ray; ray.init(address=sys.argv[1], **{QUIET!r})"
TRIES = "Failed to get cluster ID"  # after which Ray tries again and again
TOKEN = ("InvalidAuthToken", "Unauthenticated")


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """The module `ray`, connected: to a new Ray of this machine for "local", else to HOST:PORT or ray://HOST:PORT.

    Raises UserError if there is none.
    """
    reachable(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    own: dict[str, Any] = {}
    secret: dict[str, str] = {}
    scratch = ""
    if address == LOCAL:
        if not any(name.startswith("RAY_AUTH") for name in os.environ):  # else Ray writes a token to the home folder
            secret = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
            os.environ.update(secret)
        scratch = tempfile.mkdtemp(prefix="gankit-ray-")
        own = {"include_dashboard": False, "_temp_dir": scratch, "_node_ip_address": "127.0.0.1"}
    else:
        _try(address)
    before = signal.getsignal(signal.SIGTERM)
    try:
        import ray

        if ray.is_initialized():
            raise UserError("--ray: this program is connected to Ray already: call ray.shutdown() first")
        try:
            ray.init(address=address, **QUIET, **own)
        except (Exception, SystemExit) as error:
            raise UserError(f"--ray {address}: Ray does not start: {_first_line(str(error))}") from None
        with suppress(ValueError):  # not in the main thread
            signal.signal(signal.SIGTERM, before)  # Ray's handler would end this process
        try:
            yield ray
        finally:
            ray.shutdown()
    finally:
        for name in secret:
            os.environ.pop(name, None)
        if scratch:
            shutil.rmtree(scratch, ignore_errors=True)


def reachable(address: str) -> None:
    """Raise UserError without Ray, or for an address that has no server, or none of Ray's kind. It takes no time."""
    if find_spec("ray") is None:
        raise UserError(f"--ray {address} needs Ray: pip install 'gankit[ray]'")
    if address == LOCAL:
        return
    host, colon, port = address.removeprefix(CLIENT).rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UserError(f"--ray {address}: write local, HOST:PORT of the head of a cluster, or ray://HOST:PORT")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE) as server:
            if os.environ.get("RAY_USE_TLS", "0") != "0":
                return
            server.settimeout(PATIENCE)
            server.sendall(HELLO)
            answer = server.recv(9)
    except OSError as error:
        why = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise UserError(f"--ray {address} does not answer ({why}): is the cluster up, and the port right?") from None
    if len(answer) < 4 or answer[3] != SETTINGS:
        raise UserError(f"--ray {address} answers, but is no Ray: give the port that `ray start --head` printed")


def _try(address: str) -> None:
    """Connect in another process. Raises UserError if it fails; sets RAY_AUTH_MODE if the cluster wants a token."""
    client, given = address.startswith(CLIENT), "RAY_AUTH_MODE" in os.environ
    if client and any(name in os.environ for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")):
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # a client is not told that a token is wanted: it waits
    said = _probe(address)
    if any(word in said for word in TOKEN) and "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        said = _probe(address)
    if said and not given:
        os.environ.pop("RAY_AUTH_MODE", None)
    if any(word in said for word in (*TOKEN, "AuthenticationError")):
        raise UserError(f"--ray {address} wants its token: put it into RAY_AUTH_TOKEN (`ray get-auth-token` shows it)")
    if "Version mismatch" in said:
        versions = " ".join(said[said.index("Version mismatch") :].split())[:200]
        raise UserError(f"--ray {address} has other versions: {versions}")
    if said:
        hint = " (if the cluster has a token, put it into RAY_AUTH_TOKEN)" if client else ""
        raise UserError(f"--ray {address} answers, but Ray cannot connect: {_first_line(said)}{hint}")


def _probe(address: str) -> str:
    """What a process says that cannot connect; "" if it can."""
    with tempfile.TemporaryDirectory() as folder:
        errors = Path(folder) / "said"
        with open(errors, "wb") as written:
            process = subprocess.Popen(
                [sys.executable, "-P", "-c", PROBE, address],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=written,
                start_new_session=True,
            )
        until = time.monotonic() + TRY
        try:
            while process.poll() is None and time.monotonic() < until and TRIES not in _text(errors):
                time.sleep(0.1)
        finally:
            process.kill()
            process.wait()
        return "" if process.returncode == 0 else _text(errors) or f"it takes more than {TRY:g} s"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _first_line(said: str) -> str:
    """The line that names an error, or else the last one."""
    lines = [line.strip() for line in said.splitlines() if line.strip()] or ["it says nothing"]
    return next((line for line in reversed(lines) if "Error" in line.split(":")[0]), lines[-1])[:300]
