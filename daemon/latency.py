"""
How long versions take for one query, side by side.

In:  what answers, and queries. Out: the median of each; read by verification.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np


def median_ms(
    answers: Mapping[str, Callable[[str], Any]],
    user_queries: Sequence[str],
    now: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """
    Let each answer every query, in turns, and give the median of each in milliseconds.

    In turns, because what else the machine does is then the same for all; each answers once before, since what comes
    first pays for opening its files.

    Args:
        now: gives seconds.
    """
    for answer in answers.values():
        answer(user_queries[0])
    seconds: dict[str, list[float]] = {name: [] for name in answers}
    for place, text in enumerate(user_queries):
        # Who is first pays for whatever comes between two queries, so each is as often first as the others.
        names = list(answers)
        turn = place % len(names)
        for name in names[turn:] + names[:turn]:
            began = now()
            answers[name](text)
            seconds[name].append(now() - began)
    return {name: float(np.median(some)) * 1000 for name, some in seconds.items()}
