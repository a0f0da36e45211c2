"""``intaglio train``: a recipe becomes a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from intaglio.commands import shared_options

if TYPE_CHECKING:
    from rich.console import Console

    from intaglio.recipe import Recipe

__all__ = ["train"]


@click.command()
@click.argument("recipe", required=False)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change the recipe, for instance --set plan.epochs=20. Repeatable.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("bundles"),
    show_default=True,
    help="Where bundles are kept.",
)
@shared_options.data_root
@shared_options.device
@click.option(
    "--restart",
    is_flag=True,
    help="Discard an interrupted run of this recipe, and what --metrics and --tensorboard hold.",
)
@shared_options.allow_factory("the recipe")
@click.option(
    "--metrics",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write losses, accuracy and learning rate of every epoch to NAME.csv in this directory.",
)
@click.option(
    "--tensorboard",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write the same, and every step, as TensorBoard events under this directory.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Build everything, take one step on random images and print what would be trained.",
)
@click.option("--list", "listing", is_flag=True, help="List the recipes that come with Intaglio.")
def train(
    *,
    recipe: str | None,
    overrides: tuple[str, ...],
    out: Path,
    data_root: Path | None,
    device: str,
    restart: bool,
    allow_factories: tuple[str, ...],
    metrics: Path | None,
    tensorboard: Path | None,
    dry_run: bool,
    listing: bool,
) -> None:
    """Train RECIPE and write the bundle NAME/VERSION under the output directory.

    RECIPE is the path of a YAML file, or the name of a recipe that comes with Intaglio (--list).
    An interrupted run continues when the same command is given again. For several GPUs, on one
    machine or more: torchrun --no-python --nproc-per-node N intaglio train RECIPE.
    """
    from defenses.errors import DefenseError
    from intaglio.recipe import load_recipe, shipped_recipes
    from models.console import open_console
    from models.errors import ModelsError
    from models.sentence import Sentence, system_problem

    console = open_console(soft_wrap=True)
    again = "the same command without --restart" if restart else "the same command"
    try:
        if listing:
            from intaglio.commands.recipe_tables import print_recipes

            recipes = {name: load_recipe(name) for name in shipped_recipes()}
            print_recipes(console, recipes, data_root)
            return
        if recipe is None:
            raise click.UsageError("give a recipe, or --list to see those there are")
        loaded = load_recipe(recipe, overrides)
        if dry_run:
            _rehearse(console, loaded, data_root, device, allow_factories)
            return
        _train(
            console,
            loaded,
            out=out,
            data_root=data_root,
            device=device,
            restart=restart,
            allow_factories=allow_factories,
            metrics=metrics,
            tensorboard=tensorboard,
        )
    except (ModelsError, DefenseError) as error:
        raise Sentence(str(error)) from error
    except OSError as error:
        said = system_problem(error, out)
        if not (listing or dry_run):
            said += f" ({again} goes on after the last saved epoch)"
        raise Sentence(said) from error
    except KeyboardInterrupt:
        click.echo(f"Interrupted: {again} goes on after the last saved epoch.", err=True)
        raise SystemExit(130) from None


def _rehearse(
    console: Console,
    recipe: Recipe,
    data_root: Path | None,
    device: str,
    allow_factories: tuple[str, ...],
) -> None:
    from intaglio.commands.recipe_tables import print_rehearsal
    from intaglio.dry_run import dry_run
    from models.training.device import choose_device

    tried = dry_run(
        recipe,
        data_root=data_root,
        device=choose_device(device),
        allow_factories=allow_factories,
    )
    print_rehearsal(console, recipe, tried, data_root)


def _train(
    console: Console,
    recipe: Recipe,
    *,
    out: Path,
    data_root: Path | None,
    device: str,
    restart: bool,
    allow_factories: tuple[str, ...],
    metrics: Path | None,
    tensorboard: Path | None,
) -> None:
    from intaglio.commands.counting import Counting
    from intaglio.training import train_recipe
    from models.bundle import read_card
    from models.training.metrics import CsvMetrics, Metrics, TensorBoardMetrics
    from models.training.progress import RichReporter
    from models.training.team import launched

    written: list[Metrics] = []
    if metrics is not None:
        written.append(CsvMetrics(metrics / f"{recipe.name}.csv", restart=restart))
    if tensorboard is not None:
        written.append(TensorBoardMetrics(tensorboard / recipe.name, restart=restart))
    counting = Counting("adversarial set", console)
    with launched(device) as (team, place):

        def told(what: str) -> RichReporter | None:
            return RichReporter(what, console=console) if team.leads else None

        try:
            bundle = train_recipe(
                recipe,
                out=out,
                data_root=data_root,
                device=place,
                reporter=told(recipe.name),
                hash_reporter=told(f"{recipe.name}, hash network"),
                metrics=written,
                restart=restart,
                allow_factories=allow_factories,
                adversarial=counting if team.leads else None,
                remark=console.print if team.leads else None,
                team=team,
            )
        finally:
            counting.stop()
        if not team.leads:
            return
    card = read_card(bundle)
    for measurement in card.measured or card.networks["victim"].measured:
        console.print(
            f"{measurement.split} accuracy {measurement.accuracy:.2%} "
            f"({measurement.samples} images of {measurement.dataset})"
        )
    console.print(f"bundle {bundle}", highlight=False)
