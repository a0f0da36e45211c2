"""``intaglio models measure``: what the answers of a bundle look like on a test set."""

from __future__ import annotations

from pathlib import Path

import click

from intaglio.commands import shared_options
from intaglio.commands.finite_range import FiniteRange

__all__ = ["measure"]


@click.command()
@click.argument("names", nargs=-1, required=True)
@click.option(
    "--models",
    "root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="Directory that holds NAME/VERSION bundles.",
)
@click.option("--data", required=True, help="Dataset whose test images are shown.")
@click.option(
    "--temperature",
    type=FiniteRange(min=0.0, min_open=True),
    default=1.0,
    show_default=True,
    help="By which logits are divided; a student would take 4 or 20.",
)
@shared_options.data_root
@shared_options.device
@shared_options.allow_factory("a card")
def measure(
    *,
    names: tuple[str, ...],
    root: Path,
    data: str,
    temperature: float,
    data_root: Path | None,
    device: str,
    allow_factories: tuple[str, ...],
) -> None:
    """Measure the answers of each of NAMES, without a defense, on a test set.

    A line for each: accuracy, mean entropy in base 10, mean divergence (KL, in nats) of two answers
    to images of one class, and the mean number of classes with more than twice the uniform share:
    the figures of AST's Tables 3 and 4.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from intaglio.answers import answers_of
    from models.errors import ModelsError
    from models.training.device import choose_device

    table = Table("bundle", "accuracy", "entropy", "within class", "spikes", box=box.SIMPLE_HEAD)
    try:
        place = choose_device(device)
        for name in names:
            seen = answers_of(
                name,
                root,
                data,
                temperature=temperature,
                data_root=data_root,
                device=place,
                allow_factories=allow_factories,
            )
            within = "-" if seen.within_class is None else f"{seen.within_class:.3g}"
            table.add_row(
                Text(name, overflow="fold"), f"{seen.accuracy:.2%}", f"{seen.entropy:.4f}", within,
                f"{seen.spikes:.2f}",
            )  # fmt: skip
    except ModelsError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(2) from error
    console = Console()
    console.print(table)
    console.print(f"test images of {data}, temperature {temperature:g}", highlight=False)
