import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevanced.daemon.error_budget import level_of


@given(st.integers(1, 100_000), st.floats(0.001, 0.5))
def test_no_number_of_tests_spends_more_than_the_year_may_err(tests, yearly_error):
    assert sum(level_of(test, yearly_error) for test in range(1, tests + 1)) <= yearly_error * (1 + 1e-9)


def test_half_of_the_error_is_spent_on_the_first_ten_tests():
    assert sum(level_of(test, 0.05) for test in range(1, 11)) == pytest.approx(0.025)


@given(st.integers(1, 100_000))
def test_every_test_has_a_chance_and_each_a_smaller_one_than_that_before(test):
    assert 0 < level_of(test + 1, 0.05) < level_of(test, 0.05) < 0.005
