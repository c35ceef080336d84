"""Which user do the servers run as, and can that user reach a folder?

Postgres refuses to run as root, and nothing else here needs to. Started by root, the servers run as a system
user of their own; started by anybody else, they run as that person.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypedDict

NAME = "fulcrum"


class RunAs(TypedDict, total=False):
    """The keyword arguments of ``subprocess.Popen`` that change the user."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True)
class Account:
    """A user of this machine. ``dedicated``: not the one who started this program."""

    name: str
    uid: int
    gid: int
    dedicated: bool

    @property
    def run_as(self) -> RunAs:
        if not self.dedicated:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def own(self, path: Path) -> None:
        """Give ``path`` to this user."""
        if self.dedicated:
            os.chown(path, self.uid, self.gid)

    def may(self, access: str, path: Path) -> bool:
        """Whether this user has ``access`` (r, w or x) to ``path``, asked of the kernel as that user."""
        if not self.dedicated:
            return os.access(path, {"r": os.R_OK, "w": os.W_OK, "x": os.X_OK}[access])
        asked = subprocess.run(
            ["/usr/bin/test", f"-{access}", str(path)], cwd="/", check=False, **self.run_as
        )
        return asked.returncode == 0


@cache
def server_account() -> Account:
    """The user the servers run as; made when root starts them for the first time."""
    if os.geteuid() != 0:
        me = pwd.getpwuid(os.geteuid())
        return Account(me.pw_name, me.pw_uid, me.pw_gid, dedicated=False)
    try:
        entry = pwd.getpwnam(NAME)
    except KeyError:
        useradd = shutil.which("useradd") or "/usr/sbin/useradd"
        subprocess.run(
            [useradd, "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", NAME],
            check=True,
        )
        entry = pwd.getpwnam(NAME)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, dedicated=True)
