"""The command `relevanced`: a problem that a person can mend is one sentence on stderr, with a status for scripts."""

import os
import sys
from typing import Final

import typer
from typer.exceptions import TyperException

from relevanced.daemon.hub import keep_libraries_offline

USAGE: Final = 2  # what was given cannot be used
TRY_AGAIN: Final = 75  # EX_TEMPFAIL: what failed may be over by the next start, so a supervisor should make one
INTERRUPTED: Final = 130  # 128 + SIGINT


def main() -> None:
    """Run the command line; a stack trace reaches a person only with --debug."""
    # Read when torch is imported, in this process and its children: threads that wait shall not spin, since two busy
    # processes on two cores then do four times as much.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")  # memory stays flat; see training.py
    keep_libraries_offline()  # what is fetched, hub.py fetches
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    sys.exit(run(arguments, debug=debug))


def run(arguments: list[str], *, debug: bool) -> int:
    """Run one command and give its exit status."""
    from relevanced.daemon.cli import app
    from relevanced.daemon.errors import FailStep, RelevancedError, Retry, StopDaemon

    try:
        result = app(arguments, prog_name="relevanced", standalone_mode=False)
    except TyperException as error:
        return _complain(f"{error} (`relevanced --help` lists the commands.)", USAGE)
    except typer.Exit as leaving:
        return leaving.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return _complain("Stopped; the same command again goes on from what is kept.", INTERRUPTED)
    except RelevancedError as error:
        if debug:
            raise
        passing = isinstance(error, (Retry, StopDaemon))
        return _complain(str(error), 1 if isinstance(error, FailStep) else TRY_AGAIN if passing else USAGE)
    except OSError as error:
        if debug:
            raise
        return _complain(f"{error.filename or 'The system'}: {error.strerror or error}.", USAGE)
    except Exception as error:  # the last handler there is
        if debug:
            raise
        return _complain(f"Unexpected {type(error).__name__}: {error} (`--debug` shows where).", 1)
    return result if isinstance(result, int) else 0


def _complain(sentence: str, status: int) -> int:
    sys.stderr.write(sentence + "\n")
    return status


if __name__ == "__main__":
    main()
