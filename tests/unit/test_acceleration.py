import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from relevanced.daemon.acceleration import Anderson


@given(st.integers(0, 10_000), st.floats(0.5, 0.99))
def test_the_fixed_point_of_a_slow_map_is_found_in_fewer_steps_than_the_map_needs(seed, rate):
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.standard_normal((5, 5)))
    contraction, goal = basis @ np.diag([rate, 0.4, 0.3, 0.2, 0.1]) @ basis.T, rng.standard_normal(5)
    step = lambda point: goal + contraction @ (point - goal)  # noqa: E731
    anderson, point, plain, steps = Anderson(), np.zeros(5), np.zeros(5), 0
    while np.abs(step(point) - point).max() > 1e-7:
        point, plain, steps = anderson.propose(point, step(point)), step(plain), steps + 1
    assert np.abs(point - goal).max() < 1e-4
    assert steps <= 20
    assert rate < 0.9 or np.abs(point - goal).max() < np.abs(plain - goal).max()


def test_a_map_that_is_not_linear_is_followed_to_its_fixed_point():
    anderson, point = Anderson(), np.array([3.0, -2.0])
    for _ in range(60):
        point = anderson.propose(point, np.array([np.cos(point[0]), np.tanh(point[1]) / 2 + 0.1]))
    assert np.allclose(point, [np.cos(point[0]), np.tanh(point[1]) / 2 + 0.1], atol=1e-9)
