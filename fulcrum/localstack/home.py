"""Where does a stack keep its data, logs, downloads and ports?

One folder holds everything: ``data/<server>``, ``logs/<server>.log``, ``run/<server>.json`` (what runs),
``dist`` (downloads), ``stack.json`` (ports, chosen once). It is ``FULCRUM_HOME``, else ``.fulcrum`` in the
checkout, else ``.fulcrum`` in the current folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from fulcrum.localstack.account import Account, server_account
from fulcrum.localstack.process import StackError

Say = Callable[[str], None]

#: Below the range from which the kernel takes the ports of outgoing connections, so that a port that is
#: free today is not somebody's connection tomorrow.
_PORTS = range(20_000, 32_000)


@dataclass(frozen=True)
class Home:
    """The folders of one stack and the user its servers run as."""

    path: Path
    dist: Path
    account: Account

    def data(self, name: str) -> Path:
        return self.path / "data" / name

    def log(self, name: str) -> Path:
        return self.path / "logs" / f"{name}.log"

    def record(self, name: str) -> Path:
        return self.path / "run" / f"{name}.json"

    def lay(self) -> None:
        """Make the folders. StackError when the servers' user cannot reach them."""
        for folder in (self.path, self.path / "data", self.path / "logs", self.path / "run"):
            folder.mkdir(parents=True, exist_ok=True)
            if self.account.dedicated:
                folder.chmod(0o755)
        if not self.account.may("x", self.path):
            raise StackError(
                f"FULCRUM_HOME={self.path}: the servers run as user {self.account.name}, who cannot reach "
                "it; choose a folder below which every parent has mode o+x, such as /var/lib/fulcrum/mine"
            )

    def lay_data(self, name: str) -> Path:
        """The data folder of one server, private to the servers' user."""
        folder = self.data(name)
        if not folder.exists():
            folder.mkdir(mode=0o700)
            self.account.own(folder)
        return folder

    def ports(self) -> dict[str, int]:
        """The ports chosen so far, by name."""
        try:
            ports: dict[str, int] = json.loads((self.path / "stack.json").read_text())["ports"]
        except FileNotFoundError:
            return {}
        return ports

    def choose_ports(self, names: Iterable[str], taken: Iterable[str] = ()) -> dict[str, int]:
        """Ports for ``names``: the remembered ones, new ones for new names and for those in ``taken``."""
        ports = self.ports()
        again = set(taken)
        for name in names:
            if name not in ports or name in again:
                ports[name] = free_port(avoid=ports.values())
        draft = self.path / "stack.json.new"
        draft.write_text(json.dumps({"ports": ports}, indent=1))
        draft.replace(self.path / "stack.json")
        return ports


def free_port(avoid: Iterable[int] = ()) -> int:
    """A port of 127.0.0.1 on which nothing listens."""
    refused = set(avoid)
    for port in random.sample(_PORTS, 200):
        if port not in refused and is_free(port):
            return port
    raise StackError(
        f"no free port between {_PORTS.start} and {_PORTS.stop} on 127.0.0.1; end what holds them"
    )


def is_free(port: int) -> bool:
    """Whether nothing listens on ``port`` of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def checkout() -> Path | None:
    """The checkout this package is run from, or None when it is installed elsewhere."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "setup.cfg").is_file() and (root / "schemas").is_dir() else None


def default_path(account: Account) -> Path:
    """Where the stack of this checkout lives unless FULCRUM_HOME says otherwise.

    The servers' user may be unable to reach the checkout (it may lie in a home of mode 0700); their folder
    is then below /var/lib/fulcrum, named after the checkout.
    """
    root = checkout() or Path.cwd()
    if account.may("x", root):
        return root / ".fulcrum"
    return Path("/var/lib/fulcrum") / hashlib.sha256(str(root).encode()).hexdigest()[:12]


def find_home(path: Path | None = None, dist: Path | None = None) -> Home:
    """The home at ``path``, else FULCRUM_HOME, else the default; downloads in ``dist``, else FULCRUM_DIST."""
    account = server_account()
    given = os.environ.get("FULCRUM_HOME")
    where = path or (Path(given) if given else default_path(account))
    where = where.absolute()
    shared = dist or Path(os.environ.get("FULCRUM_DIST") or where / "dist")
    return Home(where, shared.absolute(), account)
