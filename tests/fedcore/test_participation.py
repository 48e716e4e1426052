"""Who is asked: deterministic, independent of who else is there, and of the right size."""

import pytest
from pydantic import TypeAdapter

from fedcore.participation import ParticipationSettings, public_coin

CLIENTS = [f"client-{i:03d}" for i in range(200)]


def choose(**values):
    return TypeAdapter(ParticipationSettings).validate_python(values).build()


def test_everybody_in_canonical_order():
    assert choose(kind="everybody")(["b", "a"], 1, public_coin(0)) == ("a", "b")


def test_removing_a_client_moves_nobody_else_under_poisson():
    draw = choose(kind="poisson", sampling_probability=0.3)
    for number in range(1, 20):
        full = draw(CLIENTS, number, public_coin(5))
        without = draw([c for c in CLIENTS if c != "client-007"], number, public_coin(5))
        assert set(full) - {"client-007"} == set(without)


def test_poisson_sizes_have_the_binomial_mean_and_spread_and_a_wrong_rate_would_show():
    draw = choose(kind="poisson", sampling_probability=0.3)
    sizes = [len(draw(CLIENTS, number, public_coin(1))) for number in range(1, 301)]
    mean = sum(sizes) / len(sizes)
    error = (200 * 0.3 * 0.7 / len(sizes)) ** 0.5
    assert abs(mean - 60) < 4 * error < abs(mean - 50)
    variance = sum((s - mean) ** 2 for s in sizes) / (len(sizes) - 1)
    assert 42 * 0.7 < variance < 42 * 1.3  # n q (1 - q); a fixed-size sampler would have 0


def test_fixed_cohorts_have_the_size_and_are_uniform():
    draw = choose(kind="fixed", cohort_size=10)
    counts = dict.fromkeys(CLIENTS, 0)
    for number in range(1, 401):
        cohort = draw(CLIENTS, number, public_coin(2))
        assert len(cohort) == len(set(cohort)) == 10 and list(cohort) == sorted(cohort)
        for client in cohort:
            counts[client] += 1
    assert min(counts.values()) >= 5 and max(counts.values()) <= 40  # mean 20, sd 4.4


def test_order_of_the_clients_and_round_and_seed():
    for draw in (
        choose(kind="poisson", sampling_probability=0.5),
        choose(kind="fixed", cohort_size=5),
    ):
        assert draw(CLIENTS, 1, public_coin(1)) == draw(CLIENTS[::-1], 1, public_coin(1))
        assert (
            len(
                {
                    draw(CLIENTS, 1, public_coin(1)),
                    draw(CLIENTS, 2, public_coin(1)),
                    draw(CLIENTS, 1, public_coin(2)),
                }
            )
            == 3
        )


def test_a_cohort_larger_than_the_federation_is_refused():
    with pytest.raises(ValueError, match="cohort_size=3 is more than the 2 clients"):
        choose(kind="fixed", cohort_size=3)(["a", "b"], 1, public_coin(0))
