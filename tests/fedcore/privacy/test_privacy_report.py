"""The operator's table and picture of budgets."""

import io

import numpy as np
import pytest
from PIL import Image

from fedcore.privacy.budget import Budget, standing
from fedcore.privacy.events import SampledGaussian
from fedcore.report.privacy import Course, budget_table, course, course_table, plot_budgets

STEP = SampledGaussian(1.0, 10.0, 10)
BUDGET = Budget(epsilon=3.0, delta=1e-5)


def test_a_course_rises_from_nothing_to_what_is_spent():
    found = course([STEP] * 5, BUDGET)
    assert found.releases == (0, 1, 2, 3, 4, 5)
    assert found.epsilon[0] == 0 and found.epsilon[-1] == BUDGET.of([STEP] * 5).value
    assert list(found.epsilon) == sorted(found.epsilon)
    assert course([STEP] * 9, BUDGET, most=3).releases == (0, 3, 6, 9)
    assert course([], BUDGET) == Course((0,), (0.0,))


def test_the_table_has_the_worst_owner_first():
    standings = {
        owner: standing([STEP] * count, BUDGET) for owner, count in {"a": 1, "b": 9, "c": 4}.items()
    }
    header, _, *rows = budget_table(standings).splitlines()
    assert header.startswith("| owner | state | epsilon spent | left | budget | used |")
    assert [row.split(" | ")[0] for row in rows] == ["| b", "| c", "| a"]
    spent = BUDGET.of([STEP] * 4)
    assert f"| c | **warning** | {spent.prv:.3f} | {3 - spent.prv:.3f} | 3 | 86% |" in rows[1]
    assert "| b | **exhausted** |" in rows[0] and "| 1e-05 | add or remove |" in rows[0]


def test_rounds_are_rows_and_owners_columns():
    one = course([STEP] * 2, BUDGET)
    spent = [f"{epsilon:.3f} ({3 - epsilon:.3f} left)" for epsilon in one.epsilon]
    table = course_table({"b": one, "a": Course((0, 1), (0.0, 3.5))}, {"a": BUDGET, "b": BUDGET})
    assert table.splitlines()[0] == "| releases | a | b |"
    assert table.splitlines()[2:] == [
        f"| 0 | 0.000 (3.000 left) | {spent[0]} |",
        f"| 1 | 3.500 (0.000 left) | {spent[1]} |",
        f"| 2 | - | {spent[2]} |",
    ]


@pytest.mark.slow  # pictures
@pytest.mark.parametrize("owners", [0, 3, 40])
def test_the_picture_shows_who_is_past_the_warning(owners):
    curves = {f"site {i}": Course((0, 5, 10), (0.0, 1.0, 1.5)) for i in range(owners)}
    budgets = dict.fromkeys(curves, BUDGET)
    calm = np.asarray(Image.open(io.BytesIO(plot_budgets(curves, budgets))))
    curves["late"], budgets["late"] = Course((0, 5, 10), (0.0, 2.0, 2.9)), BUDGET
    content = plot_budgets(curves, budgets, title="Budgets")
    late = np.asarray(Image.open(io.BytesIO(content)))

    def red(picture):
        channels = picture[..., :3].astype(int)
        return ((channels[..., 0] > 150) & (channels[..., 1:].max(axis=-1) < 80)).sum()

    assert red(calm) == 0 < red(late)
    assert content == plot_budgets(curves, budgets, title="Budgets")
