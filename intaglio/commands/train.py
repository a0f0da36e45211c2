"""``intaglio train``: a recipe becomes a bundle."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["train"]


@click.command()
@click.argument("recipe", required=False)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change the recipe: --set plan.epochs=20. May be given several times.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("bundles"),
    show_default=True,
    help="Where bundles are kept.",
)
@click.option(
    "--data-root",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where datasets are looked for.  [env: INTAGLIO_DATA_ROOT]",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda:N.")
@click.option("--restart", is_flag=True, help="Forget an interrupted run of this recipe.")
@click.option(
    "--allow-factory",
    "allow_factories",
    multiple=True,
    metavar="FACTORY",
    help="Let the recipe call this architecture of your own: package.module:name or file.py:name.",
)
@click.option("--list", "listing", is_flag=True, help="Show the recipes that come with Intaglio.")
def train(
    *,
    recipe: str | None,
    overrides: tuple[str, ...],
    out: Path,
    data_root: Path | None,
    device: str,
    restart: bool,
    allow_factories: tuple[str, ...],
    listing: bool,
) -> None:
    """Train RECIPE and write the bundle NAME/VERSION under the output directory.

    RECIPE is the path of a YAML file, or the name of a recipe that comes with Intaglio (--list).
    A run that was interrupted goes on when the same command is given again.
    """
    from rich.console import Console
    from rich.table import Table

    from defenses.errors import DefenseError
    from intaglio.commands.counting import Counting
    from intaglio.recipe import load_recipe, shipped_recipes
    from models.errors import ModelsError

    console = Console(soft_wrap=True)
    if listing:
        table = Table("recipe", "what it trains", box=None, pad_edge=False)
        for name, description in shipped_recipes().items():
            table.add_row(name, description)
        console.print(table)
        return
    if recipe is None:
        raise click.UsageError("give a recipe, or --list to see those there are")

    counting = Counting("adversarial set", console)
    try:
        loaded = load_recipe(recipe, overrides)

        from intaglio.training import train_recipe
        from models.bundle import read_card
        from models.training.device import choose_device
        from models.training.progress import RichReporter

        bundle = train_recipe(
            loaded,
            out=out,
            data_root=data_root,
            device=choose_device(device),
            reporter=RichReporter(loaded.name, console=console),
            restart=restart,
            allow_factories=allow_factories,
            adversarial=counting,
        )
        card = read_card(bundle)
    except (ModelsError, DefenseError) as error:
        raise _Refused(str(error)) from error
    except KeyboardInterrupt:
        raise _Refused("interrupted: the same command goes on after the last epoch") from None
    finally:
        counting.stop()
    for measurement in card.networks["victim"].measured:
        console.print(
            f"{measurement.split} accuracy {measurement.accuracy:.2%} "
            f"({measurement.samples} images of {measurement.dataset})"
        )
    console.print(f"bundle {bundle}", highlight=False)


class _Refused(click.ClickException):
    """A sentence on standard error and exit status 2."""

    exit_code = 2
