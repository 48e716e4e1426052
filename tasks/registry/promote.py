"""Who made a version the champion, and why; and the way back."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fedcore.digests import canonical_json
from tasks.registry import tags
from tasks.registry.connection import registry
from tasks.registry.model_version import VersionRef
from tasks.registry.privacy_gate import require_claim_stands

if TYPE_CHECKING:
    from mlflow import MlflowClient

MAX_WHY = 2000
_VERSION = re.compile(r"(?:models:/)?(?P<name>[^@]+?)(?:/(?P<number>\d+)|@(?P<alias>[\w.-]+))")


def promote(
    tracking_uri: str, version: str, *, who: str, why: str, when: datetime | None = None
) -> VersionRef:
    """Makes a version the ``champion`` and records who, why, when and whom it follows, as its tags.

    Every promotion also stays under a tag of its own, so that a later one hides nothing.

    Args:
      tracking_uri: of the registry.
      version: ``NAME/3``, ``NAME@challenger`` or ``models:/...``.
      who: name of the person who decides.
      why: the reason, at most 2000 characters.
      when: time of the decision with its zone; now when left out.

    Raises:
      ValueError: nobody, no reason, or a version that cannot be read or does not exist.
      PromotionRefused: attacks show more than the version claims.
      RegistryUnavailable: MLflow does not answer.
    """
    who, why = who.strip(), why.strip()
    if not who:
        raise ValueError(
            "who='' : a promotion names the person who decides, e.g. --who 'A. Smith'."
        )
    if not why:
        raise ValueError("why='' : a promotion gives its reason, e.g. --why 'better at all sites'.")
    if len(why) > MAX_WHY:
        raise ValueError(f"why has {len(why)} characters; at most {MAX_WHY}. Link to the rest.")
    moment = (when or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    with registry(tracking_uri) as client:
        chosen = resolve_version(client, version)
        require_claim_stands(client, client.get_model_version(chosen.name, chosen.version))
        previous = client.get_registered_model(chosen.name).aliases.get(tags.CHAMPION)
        note = {
            tags.PROMOTED_BY: who,
            tags.PROMOTED_WHY: why,
            tags.PROMOTED_AT: moment,
            tags.PREVIOUS_CHAMPION: "none" if previous is None else str(previous),
        }
        note[f"{tags.PROMOTION}.{moment}"] = canonical_json(note)
        for key, value in note.items():
            client.set_model_version_tag(chosen.name, chosen.version, key, value)
        # Last: whoever sees the champion sees why.
        client.set_registered_model_alias(chosen.name, tags.CHAMPION, chosen.version)
        return chosen


def roll_back(tracking_uri: str, name: str, *, who: str, why: str) -> VersionRef:
    """Makes the champion before the present one the champion again.

    Raises:
      ValueError: there is no champion, or none before it.
      PromotionRefused: attacks show more than that one claims.
      RegistryUnavailable: MLflow does not answer.
    """
    with registry(tracking_uri) as client:
        current = resolve_version(client, f"{name}@{tags.CHAMPION}")
        found = client.get_model_version(current.name, current.version)
        previous = found.tags.get(tags.PREVIOUS_CHAMPION, "none")
    if previous in ("none", current.version):
        raise ValueError(f"{current} has no champion before it; promote another version instead.")
    return promote(tracking_uri, f"{name}/{previous}", who=who, why=why)


def resolve_version(client: MlflowClient, version: str) -> VersionRef:
    """The version that a text names.

    Raises:
      ValueError: it has another form, or there is no such version; the message says what there is.
    """
    from mlflow.exceptions import MlflowException

    match = _VERSION.fullmatch(version.strip())
    if match is None:
        raise ValueError(f"version={version!r} must look like NAME/3 or NAME@{tags.CHALLENGER}.")
    name = match["name"]
    try:
        aliases = client.get_registered_model(name).aliases
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        known = ", ".join(sorted(each.name for each in client.search_registered_models()))
        raise ValueError(
            f"there is no registered model {name!r}; there are: {known or 'none'}."
        ) from None
    number = match["number"] or aliases.get(match["alias"])
    numbers = sorted(
        (str(each.version) for each in client.search_model_versions(f"name = '{name}'")), key=int
    )
    if number is None or str(number) not in numbers:
        raise ValueError(
            f"{version!r} is no version of {name}; versions: {', '.join(numbers) or 'none'}; "
            f"aliases: {', '.join(sorted(aliases)) or 'none'}."
        )
    return VersionRef(name, str(number))
