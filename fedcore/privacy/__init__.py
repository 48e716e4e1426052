"""Differential privacy: noise that only its owner can compute, what it is worth, who spent what."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedcore.privacy.accounting import epsilon
    from fedcore.privacy.calibration import calibrate

__all__ = ["calibrate", "epsilon"]


def __getattr__(name: str) -> Any:
    """SciPy, a second of import, waits until something is to be accounted for."""
    if name == "epsilon":
        from fedcore.privacy.accounting import epsilon

        return epsilon
    if name == "calibrate":
        from fedcore.privacy.calibration import calibrate

        return calibrate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
