"""Whether a version may be the champion, by what attacks on its training found.

The numbers that were logged with its run decide. Tags say the same for people, and anybody can set
them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fedcore.attacks.found import CLAIM
from fedcore.attacks.verdict import Verdict
from fedcore.digests import digest_json
from tasks.registry import tags
from tasks.registry.artifacts import PRIVACY_AUDIT, read_text

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


class PromotionRefused(ValueError):
    """A version must not become the champion; the message says why and the way out."""


def require_claim_stands(client: MlflowClient, version: ModelVersion) -> None:
    """Refuses a version whose training leaks more than it claims, or whose audit was tampered with.

    A version that claims nothing, and one that nobody asked to attack, are not refused.

    Raises:
      PromotionRefused: saying what was found.
    """
    if not version.run_id:
        return
    params = client.get_run(version.run_id).data.params  # nobody can change them
    try:
        attacked = json.loads(read_text(client, version.run_id, PRIVACY_AUDIT))
    except LookupError:
        attacked = None
    was_asked = params.get("attacks.kind", "none") != "none"
    if why := why_refused(attacked, version.tags, was_asked=was_asked):
        raise PromotionRefused(
            f"{version.name}/{version.version} is not promoted: {why} The version stays for "
            "review; mend what is wrong, train again and promote the version that comes of it."
        )


def why_refused(
    attacked: Mapping[str, Any] | None, version_tags: Mapping[str, str], *, was_asked: bool
) -> str | None:
    """Why a version must not be the champion, in a sentence; None when it may.

    Args:
      attacked: what the attacks found, by attack, as it was logged; or None.
      version_tags: of the version.
      was_asked: whether the run's configuration asked for attacks.
    """
    if attacked is None and (was_asked or tags.PRIVACY_AUDIT_DIGEST in version_tags):
        return f"its run was attacked, and what was found ({PRIVACY_AUDIT}) is gone."
    if attacked is None:
        return None
    if not (verdict := Verdict.from_json(attacked[CLAIM])).passed:
        return str(verdict)
    if digest_json(attacked) != version_tags.get(tags.PRIVACY_AUDIT_DIGEST):
        return (
            f"{PRIVACY_AUDIT} of its run is not what its tag {tags.PRIVACY_AUDIT_DIGEST} names; "
            "one of them was changed."
        )
    return None
