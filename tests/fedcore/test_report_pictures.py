"""Curves and tables of a run."""

import io

import numpy as np
import pytest
from PIL import Image

from fedcore.report.curves import plot_curves
from fedcore.report.history import curves_of
from fedcore.report.tables import report_markdown, round_table, rounds_table, scores_table


def records(num_clients=3, num_rounds=4):
    generator = np.random.default_rng(0)
    result = []
    for number in range(1, num_rounds + 1):
        clients = {
            f"client-{c:03d}": {
                "loss": 1 / number + 0.01 * c,
                "accuracy": 0.5 + 0.1 * number - 0.001 * c + 0.01 * generator.random(),
                "num_examples": 10,
            }
            for c in range(num_clients)
        }
        measured = {"overall": {"loss": 1 / number, "accuracy": 0.5 + 0.1 * number}}
        outcomes = {
            client: {"status": "done", "num_examples": 20, "update": {"digest": "ab" * 32}}
            for client in clients
        }
        outcomes["client-000"] = {"status": "failed", "reason": "out of | memory"}
        result.append({
            "round": number,
            "outcomes": outcomes,
            "model": {"digest": f"{number}" * 64, "size": 1, "kind": "model"},
            "metrics": {} if number == 2 else {"val": measured | {"clients": clients}},
        })  # fmt: skip
    return result


def picture(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_curves_follow_the_rounds_that_were_measured():
    curve = curves_of(records())["val"]["accuracy"]
    assert curve.rounds.tolist() == [1, 3, 4]
    assert curve.overall.tolist() == pytest.approx([0.6, 0.8, 0.9])
    assert set(curves_of(records())["val"]) == {"loss", "accuracy"}


def test_a_client_that_was_not_measured_leaves_a_gap():
    some = records()
    del some[2]["metrics"]["val"]["clients"]["client-001"]
    values = curves_of(some)["val"]["loss"].clients["client-001"]
    assert np.isnan(values).tolist() == [False, True, False]


@pytest.mark.parametrize(("num_clients", "num_rounds"), [(1, 1), (3, 4), (100, 6)])
def test_a_picture_shows_something_in_every_panel(num_clients, num_rounds):
    pixels = picture(plot_curves(records(num_clients, num_rounds), title="demo"))
    height, width, _ = pixels.shape
    assert width > height
    for half in (pixels[:, : width // 2], pixels[:, width // 2 :]):
        blue = (np.abs(half.astype(int) - [11, 79, 138]).sum(axis=2) < 30).sum()
        assert blue > 10  # the overall line
    red = (np.abs(pixels.astype(int) - [193, 18, 31]).sum(axis=2) < 30).sum()
    assert (red > 10) == (num_clients > 1)  # the worst client


def test_a_metric_that_only_the_whole_has_is_a_single_line():
    some = records(40)
    for record in some:
        for measured in record["metrics"].values():
            measured["overall"]["auc"] = 0.9
    assert curves_of(some)["val"]["auc"].clients == {}
    assert picture(plot_curves(some)).size


def test_a_picture_is_a_function_of_the_records():
    assert plot_curves(records()) == plot_curves(records())
    assert plot_curves(records()) != plot_curves(records(num_rounds=3))


def test_a_run_without_metrics_still_has_a_picture():
    assert picture(plot_curves([])).size


def test_a_round_has_a_row_per_client_with_its_reason():
    table = round_table(records()[3])
    assert "**Round 4**: 2 of 3 clients done, 1 failed; scores on val." in table
    assert "| client | status | reason | samples | loss |" in table
    assert "| client-000 | failed | out of \\| memory | - | 0.250 |" in table
    assert "| client-001 | done |  | 20 | 0.260 | 0.9" in table
    assert "abababababab" in table


def test_a_round_that_was_not_evaluated_has_a_table_too():
    assert "| client-001 | done |  | 20 | abababababab |" in round_table(records()[1])


def test_the_worst_of_each_column_is_bold_and_the_rest_is_counted():
    measured = records(100)[3]["metrics"]["val"]
    table = scores_table(measured, most_clients=10)
    worst = min(measured["clients"], key=lambda c: measured["clients"][c]["accuracy"])
    assert f"| {worst} |" in table
    assert f"**{measured['clients'][worst]['accuracy']:.3f}**" in table
    assert "90 clients with better scores are not listed." in table
    assert len(scores_table(measured, most_clients=100).splitlines()) == 103


def test_the_rounds_at_a_glance():
    lines = rounds_table(records()).splitlines()
    assert lines[0] == "| round | clients | val loss | val accuracy | model |"
    assert lines[3] == "| 2 | 2 of 3 | - | - | 222222222222 |"
    assert lines[5] == "| 4 | 2 of 3 | 0.250 | 0.900 | 444444444444 |"


def test_the_report_holds_its_pictures_and_notes():
    text = report_markdown(
        title="demo-fedavg-0",
        facts={"seed": 0},
        records=records(),
        audit="No error.",
        pictures={"Curves": b"\x89PNG", "Partition": "partition.png"},
        notes=["One client failed."],
    )
    assert text.startswith("# demo-fedavg-0\n")
    assert "![Curves](data:image/png;base64,iVBORw==)" in text
    assert "![Partition](partition.png)" in text
    assert "> One client failed." in text
    assert "## Data audit\n\nNo error." in text
