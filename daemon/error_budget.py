"""
The error budget: how likely one test may be wrong, so that a year of nightly tests is not.

In:  how many tests there were since the last promotion. Out: the level of the next; asked by the gate and by trials,
which spend the same budget.

Who tests a candidate each night at 2.5 % promotes one that is no better within weeks.
"""

from typing import Final

_SOON: Final = 10  # half of the budget goes to as many tests; the rest lasts for ever
HORIZON_DAYS: Final = 365  # a test that is longer ago counts no more


def level_of(test: int, yearly_error: float) -> float:
    """
    How likely the nth test since the last promotion may promote a version without any gain.

    Levels fall as 1/n², slowly at first: what comes soon after a promotion has the most to gain, and none is ever
    without hope. All of them add up to yearly_error, so by the union bound a false promotion is no likelier than that,
    however alike the candidates are; it bears no candidates that are made after the figures of those before. A
    promotion, true or false, begins anew. Within any year the nth test has n - 1 before it or more, so the bound holds
    over each year too.

    Args:
        test: from 1.
    Source: alpha spending over an endless sequence of tests: Foster and Stine, JRSS B 2008; the new beginning after a
        discovery: Javanmard and Montanari, Annals of Statistics 2018.
    """
    return yearly_error * _SOON / ((test + _SOON - 1) * (test + _SOON))
