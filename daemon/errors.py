"""
Errors, named by what is done about them.

A driver's exception becomes one of these at the edge that knows it; each has one handler, in the loop or the cli.
"""


class RelevancedError(Exception):
    """The base of all: its text is one sentence that says what is wrong, where, and what to do."""


class BadInput(RelevancedError):
    """What a person gave cannot be used; the command ends with status 2 and leaves nothing half done."""


class Retry(RelevancedError):
    """The same call may succeed later: wait, then repeat it."""


class DeadLetter(RelevancedError):
    """This record will never be readable: keep it with the reason and go on."""


class FailStep(RelevancedError):
    """This step of the cycle cannot succeed: end the cycle; the live version stays."""


class StopDaemon(RelevancedError):
    """Going on would lose or spoil data: stop, and say what to do."""


class Interrupted(RelevancedError):
    """A person or the system asked to stop: what was begun goes on with the next start."""
