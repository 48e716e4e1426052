"""What a run would make of a site's rows, worked out there and for its own people only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from fedcore.assignment import Assignment
from fedcore.config import RunConfig
from fedcore.execute import execute
from fedcore.federation import Federation, Holding
from fedcore.jobs import ClientJob
from fedcore.numerics import code_digest
from fedcore.outcomes import ClientUpdate, Done, Evaluation
from fedcore.plan import RunPlan, assemble, federation_weights
from fedcore.privacy.owner import Owner
from fedcore.privacy.private_job import protects_records
from fedcore.sites.description import Description, describe
from fedcore.sites.folder import SiteError, SiteFolder
from fedcore.sites.holding import Shelf, prepare_data
from fedcore.sites.inquiry import Inquiry
from fedcore.sites.local_rows import local_rows
from fedcore.sites.local_statistics import local_statistics
from fedcore.sites.outgoing import Asked, Delta, Measured, Outgoing
from fedcore.sites.planning import preparations
from fedcore.sites.policy import Policy, PolicyError
from fedcore.sites.statistics_question import StatisticsSettings
from fedcore.store import Store

NO_SALT = "0" * 64  # the coordinator draws a run's own; the names have the same size


def rehearse(
    site: SiteFolder, config: RunConfig, run: str, *, trains: bool = True
) -> Iterator[tuple[Asked, Outgoing]]:
    """The description of the site's data and the statistics that an operator may ask for, then one
    update and one evaluation of a run.

    The site is taken for the only one, so that values differ from the run's, but not their names,
    forms and sizes. What was worked out is removed at the end.

    Args:
      run: id that the policy sees.
      trains: False: the description and the statistics only.

    Raises:
      SiteError: training or evaluation failed on these rows.
      ValueError: data that cannot be read, or settings that cannot work on them.
    """
    settings = site.settings
    dataset = settings.data.load(Path(settings.folder) if settings.folder else None)
    inquiry = Inquiry(config.audit, config.preprocessing.standardise, NO_SALT)
    description = describe(dataset, settings.name, inquiry, secret=site.secret)

    def asked(kind: str, round: int, key: str) -> Asked:
        private = protects_records(config.privacy)
        return Asked(run, config.name, kind, round, key, config.digest, code_digest(), private)

    yield asked("audit", 0, NO_SALT), description
    wanted = StatisticsSettings().wanted([description])
    rows = local_rows(dataset, settings.name, inquiry).partition.indices["train"][settings.name]
    table = local_statistics(dataset, rows, wanted, least=_smallest_group(site))
    yield asked("statistics", 0, NO_SALT), table
    if not trains:
        return
    how = preparations(config, [description], NO_SALT, {})[settings.name]
    with TemporaryDirectory(prefix=".rehearsal-", dir=site.path) as folder:
        store = Store(folder)
        shelf = Shelf(store)
        held = prepare_data(dataset, settings.name, how, secret=site.secret, shelf=shelf)
        blobs = {split: shelf.resolve(named.digest) for split, named in held.blobs.items()}
        plan = _plan(config, store, description, replace(held, blobs=blobs))
        base = plan.initial.params
        (job,) = plan.train_jobs(1, base, [settings.name])
        nobody = Owner(Path(folder))  # what does not leave spends nothing
        update = _done(job, store, site.cache, nobody).result
        assert isinstance(update, ClientUpdate)
        yield (
            asked("train", 1, job.key),
            Delta(
                store.get_arrays(update.delta),
                Assignment.from_json(job.settings["assignment"]).expected(store.get_arrays(base)),
                update.num_examples,
                update.metrics,
            ),
        )
        for split in config.evaluation.splits:
            for job in plan.evaluate_jobs(1, base, split):
                measured = _done(job, store, site.cache, nobody).result
                assert isinstance(measured, Evaluation)
                yield (
                    asked("evaluate", 1, job.key),
                    Measured(measured.num_examples, measured.metrics),
                )
                return


def _smallest_group(site: SiteFolder) -> int:
    try:
        return site.policy.minimum_group
    except PolicyError:  # which the gate will say of all that would leave
        return Policy().minimum_group


def _plan(config: RunConfig, store: Store, one: Description, held: Holding) -> RunPlan:
    federation = Federation({one.client: held}, {}, {})
    return assemble(
        config,
        store,
        task=one.task,
        features=one.features,
        shape=one.input_shape,
        federation=federation,
        class_weights=federation_weights(config, one.task, federation),
        scaling={},
        about={},
    )


def _done(job: ClientJob, store: Store, cache: Path, owner: Owner) -> Done:
    outcome = execute(job, store, cache, owner)
    if not isinstance(outcome, Done):
        reason = getattr(outcome, "reason", "")
        raise SiteError(f"{job.kind} failed on this site's rows: {reason}")
    return outcome
