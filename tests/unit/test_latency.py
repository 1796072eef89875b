from relevanced.daemon.latency import median_ms


class Clock:
    """Time that passes only while somebody answers."""

    def __init__(self):
        self.seconds = 0.0

    def takes(self, of_first: float, of_others: float):
        asked = []

        def answer(_text: str) -> None:
            asked.append(None)
            self.seconds += of_first if len(asked) == 1 else of_others

        return answer


def test_the_median_is_of_what_each_takes_once_it_has_begun():
    clock = Clock()
    answers = {"live": clock.takes(9, 0.002), "candidate": clock.takes(7, 0.005)}
    found = median_ms(answers, ["a", "b", "c"], lambda: clock.seconds)
    assert {name: round(value, 6) for name, value in found.items()} == {"live": 2, "candidate": 5}


def test_each_is_first_as_often_as_the_others():
    turns = []
    median_ms({name: lambda text, name=name: turns.append((text, name)) for name in "xy"}, ["a", "b"])
    assert turns == [("a", "x"), ("a", "y"), ("a", "x"), ("a", "y"), ("b", "y"), ("b", "x")]
