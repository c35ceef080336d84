"""How does a benchmark that is a program of its own end, whatever happens to it?"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from fulcrum.cli.interrupt import interruptible
from fulcrum.errors import FulcrumError


def run(name: str, main: Callable[[Sequence[str]], int]) -> NoReturn:
    """Exit with what ``main`` makes of the arguments; 130 after Ctrl-C, 1 with the error as one line."""
    with interruptible():
        try:
            sys.exit(main(sys.argv[1:]))
        except KeyboardInterrupt:
            sys.exit(130)
        except FulcrumError as error:
            print(f"{name}: {error}", file=sys.stderr)
            sys.exit(1)
