"""
What a child process of the daemon does first: it dies with its parent, and keeps stdout for what it has to say.

In:  the parent's process id. Out: the stream that the parent reads.
"""

import ctypes
import os
import signal
import sys
from typing import Final, TextIO

_PR_SET_PDEATHSIG: Final = 1  # of prctl(2)


def die_with(parent: int, status: int) -> None:
    """Ask the kernel to kill this process when its parent ends; end at once, with this status, if it already has."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        sys.exit(status)


def take_stdout() -> TextIO:
    """Keep stdout for the protocol; what libraries print goes to stderr."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return out
