"""Whether W&B can be asked at all: a key, a server; and what it answers when it refuses."""

from __future__ import annotations

import netrc
import os
import socket
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies


def has_key(shared: Any, server: str) -> bool:
    """Whether wandb would find a key for a server without asking for one."""
    import wandb

    if shared.api_key or any(os.environ.get(name) for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")):
        return True
    hosts = [urlsplit(server).netloc]
    if server == wandb.Settings().base_url:
        hosts.append("api.wandb.ai")  # W&B's own servers have changed their name
    places = [os.environ.get("NETRC", ""), "~/.netrc", "~/_netrc"]
    path = next((p for p in map(os.path.expanduser, filter(None, places)) if os.path.exists(p)), None)
    if path is None:
        return False
    try:
        entries = netrc.netrc(path)
    except (OSError, netrc.NetrcParseError):
        return False
    return any(entries.authenticators(host) for host in hosts)


def is_there(server: str, timeout: float) -> bool:
    """Whether something listens at a server's address: wandb itself asks again until its time is over."""
    place = urlsplit(server)
    if getproxies().keys() & {place.scheme, "all"}:  # it may be seen from there only
        return True
    port = place.port or {"http": 80}.get(place.scheme, 443)
    try:
        socket.create_connection((place.hostname or "", port), timeout).close()
    except OSError:
        return False
    return True


def first_line(error: Exception) -> str:
    """What an error says, without what follows on further lines."""
    return next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
