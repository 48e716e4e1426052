"""``fedloom privacy trade-off``: a configuration at several epsilons."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.cli.config import Overrides
from deployments.cli.screen import fail, out, reasons_for

if TYPE_CHECKING:
    from fedcore.config import RunConfig
    from fedcore.trade_off.settings import GridSettings

GRID = "grid."
FLOW = "trade-off"


def trade_off(
    file: Annotated[Path, typer.Argument(help="YAML file of a run.")],
    override: Overrides = None,
    in_process: Annotated[
        bool, typer.Option("--in-process", help="Here and now, without Prefect; the same scores.")
    ] = False,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="With --in-process: PNG file of the chart.")
    ] = None,
    as_json: Annotated[
        Path | None, typer.Option("--json", help="With --in-process: file for all runs' scores.")
    ] = None,
) -> None:
    """Draw a score against epsilon: train at each, over seeds, and without privacy.

    The grid is set like the rest, by dotted key. What was trained before is not trained again.

    Examples:

        fedloom privacy trade-off my.yaml -o grid.epsilons=[1,3,8] -o grid.seeds=[0,1,2]

        fedloom privacy trade-off my.yaml -o grid.reference.learning_rates=[0.1] --in-process
    """
    from fedcore.config import ConfigError, load_config, parse_overrides
    from fedcore.trade_off.points import make_grid, points_of

    if not in_process and (picture or as_json):
        fail("--picture and --json belong to --in-process; the console has both as artifacts.")
    with reasons_for(ConfigError):
        changes = parse_overrides(override or [])
        of_grid = {key: value for key, value in changes.items() if key.startswith(GRID)}
        config = load_config(file, {k: v for k, v in changes.items() if k not in of_grid})
        grid = make_grid({key.removeprefix(GRID): value for key, value in of_grid.items()})
        points_of(config, grid)  # says what cannot be before anything starts
    if in_process:
        _here(config, grid, picture, as_json)
    else:
        _through_stack(config, grid)


def _through_stack(config: RunConfig, grid: GridSettings) -> None:
    from deployments.cli.run import ready_stack, start_run
    from deployments.registration import CUSTOM

    stack = ready_stack()
    from prefect.utilities.callables import parameter_schema

    from flows.trade_off import trade_off as flow

    known = parameter_schema(flow).properties
    sections = config.model_dump(mode="json")
    parameters: dict[str, Any] = {name: sections[name] for name in sections if name in known}
    parameters["grid"] = grid.model_dump(mode="json")
    flow_run_id = start_run(f"{FLOW}/{CUSTOM}", parameters)
    out.print(f"Run      {stack.flow_run_url(flow_run_id)}", soft_wrap=True)
    out.print("Table and chart are among its artifacts, from the first run of the grid on.")


def _here(
    config: RunConfig, grid: GridSettings, picture: Path | None, as_json: Path | None
) -> None:
    import json

    from deployments.cli.in_process import engine_here
    from fedcore.audit.audit import audit, require_passed
    from fedcore.privacy.owner import Owner
    from fedcore.report.trade_off import plot_trade_off, trade_off_notes, trade_off_table
    from fedcore.trade_off.measured import measure_point
    from fedcore.trade_off.points import points_of
    from fedcore.trade_off.summary import summarise_grid
    from tasks import home

    owner, found = Owner(home.privacy()), []
    with (
        reasons_for(ValueError, RuntimeError, LookupError, OSError),
        engine_here(config.speed.workers) as engine,
    ):
        dataset = config.data.load(home.data_folder())
        report = require_passed(audit(dataset, config.audit))
        for point in points_of(config, grid):
            one = measure_point(
                point, dataset, report, store=home.store(), engine=engine, owner=owner
            )
            found.append(one)
            reached = one.failure or f"{one.score(grid.split, grid.metric):.4f}"
            out.print(f"{one.name:<32} {grid.metric} {reached}", soft_wrap=True)
        summary = summarise_grid(found, grid, config.privacy.delta)
        print(f"\n{trade_off_table(summary)}")
        for note in trade_off_notes(summary):
            print(f"\n{note}")
        if picture is not None:
            picture.write_bytes(plot_trade_off(summary))
        if as_json is not None:
            as_json.write_text(json.dumps([one.to_json() for one in found], indent=1) + "\n")
