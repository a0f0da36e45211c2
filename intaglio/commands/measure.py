"""``intaglio models measure``: what the answers of a bundle look like on a test set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from attack_client.finite_range import FiniteRange
from intaglio.commands import shared_options

if TYPE_CHECKING:
    from rich.table import Table

    from models.answer_statistics import ClassStatistics, Spread

__all__ = ["measure"]


@click.command()
@click.argument("names", nargs=-1, required=True)
@shared_options.models
@click.option("--data", required=True, help="Dataset whose test images are classified.")
@click.option(
    "--temperature",
    type=FiniteRange(min=0.0, min_open=True),
    default=1.0,
    show_default=True,
    help="Softmax temperature; for a student, 4 or 20 is usual.",
)
@click.option("--by-class", is_flag=True, help="Add a line for each class, as in AST's Table 3.")
@click.option(
    "--class",
    "classes",
    multiple=True,
    metavar="LABEL",
    help="Only these classes, by name or number. Repeatable.  [default: all]",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed that draws each class's reference image.",
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
    by_class: bool,
    classes: tuple[str, ...],
    seed: int,
    data_root: Path | None,
    device: str,
    allow_factories: tuple[str, ...],
) -> None:
    """Measure the answers of each of NAMES, without a defense, on a test set.

    Prints a line for each: accuracy, mean entropy in base 10, mean divergence (KL, in nats) of two
    answers to images of one class, and the mean number of classes with more than twice the uniform
    share: the figures of AST's Tables 3 and 4. With --by-class or --class, also the entropies of
    each class, and the divergences of its answers from that to one image of it: mean, variance, min
    and max.
    """
    from rich import box
    from rich.table import Column, Table
    from rich.text import Text

    from intaglio.answers import answers_of
    from models.answer_statistics import answer_statistics, class_statistics
    from models.console import open_console, print_table
    from models.errors import ModelsError
    from models.sentence import Sentence
    from models.training.device import choose_device

    table = Table(
        Column("bundle", overflow="fold"),
        *("accuracy", "entropy", "within class", "spikes"),
        box=box.SIMPLE_HEAD,
    )
    tables: list[Table] = []
    try:
        place = choose_device(device)
        for name in names:
            said = answers_of(
                name,
                root,
                data,
                data_root=data_root,
                device=place,
                allow_factories=allow_factories,
            )
            seen = answer_statistics(said.logits, said.truth, temperature)
            within = "-" if seen.within_class is None else f"{seen.within_class:.3g}"
            table.add_row(
                Text(name), f"{seen.accuracy:.2%}", f"{seen.entropy:.4f}", within,
                f"{seen.spikes:.2f}",
            )  # fmt: skip
            if by_class or classes:
                wanted = [_number(one, said.labels) for one in classes]
                figures = class_statistics(said.logits, said.truth, temperature, seed=seed)
                chosen = [one for one in figures if not wanted or one.label in wanted]
                tables.append(_by_class(name, chosen, said.labels))
    except ModelsError as error:
        raise Sentence(str(error)) from error
    console = open_console()
    for each in (table, *tables):
        print_table(console, each)
    console.print(f"test images of {data}, temperature {temperature:g}", highlight=False)


def _number(wanted: str, labels: Sequence[str]) -> int:
    """The class that ``wanted`` names, or whose number it is."""
    if wanted in labels:
        return labels.index(wanted)
    if wanted.isdecimal() and int(wanted) < len(labels):
        return int(wanted)
    raise click.BadParameter(
        f"there is no class {wanted!r}: give a name, or a number from 0 to {len(labels) - 1}",
        param_hint="--class",
    )


def _by_class(name: str, figures: Iterable[ClassStatistics], labels: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Column, Table
    from rich.text import Text

    def cells(of: Spread) -> list[str]:
        return [f"{value:.4g}" for value in (of.mean, of.variance, of.least, of.largest)]

    kinds = ("mean", "variance", "min", "max")
    table = Table(
        Column("class", overflow="fold"),
        *(f"KL {kind}" for kind in kinds),
        *(f"entropy {kind}" for kind in kinds),
        title=name,
        box=box.SIMPLE_HEAD,
    )
    for one in figures:
        table.add_row(Text(labels[one.label]), *cells(one.divergence), *cells(one.entropy))
    return table
