"""The cost benchmark: what is asked of whom, and what a row says. No numbers."""

from __future__ import annotations

from benchmarks.dp_cost import CASES, row, seconds


def test_every_kind_of_model_is_asked_what_the_project_promises() -> None:
    asked = {case.most for case in CASES if case.name.startswith("CNN")}
    assert asked == {3}
    heads = {case.most for case in CASES if case.name.startswith("linear") and not case.is_trainer}
    assert heads == {2}
    assert {case.most for case in CASES if case.name.startswith("LoRA")} == {4}


def test_a_row_has_medians_for_each_step_and_their_ratio() -> None:
    case = next(case for case in CASES if case.width == 192 and case.batch_size == 64)
    plain, private = seconds(case, repeats=1)
    assert len(plain) == len(private) == 1 and plain[0] > 0 and private[0] > 0
    told = row(case, [0.3, 0.1, 0.2], [0.5, 0.3, 0.4])
    assert told["parameters"] == 1930
    assert told["without, ms a step"] == 2.0 and told["with, ms a step"] == 4.0
    assert told["times"] == 2.0 and told["asked"] == "at most 2"
