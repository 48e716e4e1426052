"""The benchmark of privacy audits: what its checks accept and refuse. No numbers are measured."""

import copy

import pytest

from benchmarks.privacy_audits import ARMS, arm_row, checks

GOOD = {"no DP": (4.4, 0.7, 1.0), "clipping alone": (4.4, 0.7, 1.0), "DP": (0.5, 0.52, 0.1)}
GOOD["DP, a tenth of the noise"] = (4.1, 0.66, 0.1)


def seeds(**changed):
    arms = {}
    for arm, (bound, auc, cosine) in GOOD.items():
        likeness = {"cosine": cosine, "psnr": float("inf"), "ssim": 0.5}
        arms[arm] = {
            "one_run": {sees: {"epsilon": bound} for sees in ("updates", "model")},
            "lira": {"auc": {"estimate": auc}}
            | {"tpr": {rate: {"estimate": 0.1} for rate in ("0.001", "0.01")}},
            "inversion": {"linear": likeness, "CNN": likeness},
        }
    good = {"seed": 0, "arms": arms}
    bad = copy.deepcopy(good)
    for place, value in changed.items():
        arm, bound = place.split("_")
        bad["arms"][{"none": "no DP", "dp": "DP", "clip": "clipping alone"}[arm]][
            "one_run" if bound == "bound" else "lira"
        ] = {"updates": {"epsilon": value}} if bound == "bound" else {"auc": {"estimate": value}}
    return [good, bad]


def reached(found):
    return [row[2] for row in checks(found, 2.7)]


def test_good_numbers_reach_everything_and_every_arm_is_a_row():
    assert set(reached(seeds())) == {"yes"}
    for arm in ARMS:
        row = arm_row(arm, seeds())
        assert row[0] == arm and row[-1].startswith("99")


@pytest.mark.parametrize(
    ("changed", "which"),
    [
        ({"none_bound": 2.9}, 0),
        ({"none_auc": 0.59}, 1),
        ({"dp_bound": 2.8}, 3),
        ({"dp_auc": 0.57}, 4),
        ({"clip_bound": 2.6}, 6),
    ],
)
def test_the_worst_seed_decides(changed, which):
    assert [at for at, found in enumerate(reached(seeds(**changed))) if found != "yes"] == [which]
