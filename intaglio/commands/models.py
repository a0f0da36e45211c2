"""``intaglio models``: what there is to serve."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from intaglio.commands import shared_options
from intaglio.commands.import_weights import import_
from intaglio.commands.measure import measure

if TYPE_CHECKING:
    from models.card import Card

__all__ = ["models"]


@click.group()
def models() -> None:
    """List, show, measure and import bundles."""


models.add_command(measure)
models.add_command(import_)


@models.command("list")
@shared_options.models
def list_(root: Path) -> None:
    """List every bundle, oldest version first; weights are not read."""
    from rich import box
    from rich.table import Column, Table

    from models.bundle import find_bundles, read_card
    from models.console import open_console, print_table
    from models.errors import BundleError

    console = open_console()
    bundles = find_bundles(root)
    if not bundles:
        console.print(f"There is no bundle under {root}.", markup=False)
        return
    table = Table(
        Column("bundle", overflow="fold"),
        *("input", "classes", "networks", "test accuracy"),
        box=box.SIMPLE_HEAD,
    )
    broken: list[str] = []
    for path in bundles:
        try:
            card = read_card(path)
        except BundleError as error:
            broken.append(str(error))
            continue
        table.add_row(
            f"{card.name}/{card.version}",
            "x".join(map(str, card.input.shape)),
            str(card.classes),
            ", ".join(card.networks),
            _test_accuracy(card),
        )
    print_table(console, table)
    for message in broken:
        click.echo(f"Error: {message}", err=True)
    if broken:
        raise SystemExit(2)


@models.command()
@click.argument("name")
@shared_options.models
@click.option("--json", "as_json", is_flag=True, help="Print the card as it is on disk.")
def show(name: str, root: Path, *, as_json: bool) -> None:
    """Show the card of NAME or NAME/VERSION and check the files it describes.

    Code that a card names is neither imported nor run.
    """
    from intaglio.commands.card_page import print_card
    from models.bundle import open_bundle, read_card, resolve_bundle
    from models.console import open_console
    from models.errors import BundleError
    from models.sentence import Sentence

    try:
        path = resolve_bundle(root, name)
        card = read_card(path)
        named = {network.architecture for network in card.networks.values()}
        open_bundle(path, allow_factories={entry for entry in named if ":" in entry})
    except BundleError as error:
        raise Sentence(str(error)) from error
    if as_json:
        click.echo(card.model_dump_json(indent=2))
    else:
        print_card(open_console(), card)


def _test_accuracy(card: Card) -> str:
    network = card.networks.get("victim") or next(iter(card.networks.values()))
    measured = card.measured or network.measured
    figures = [figure for figure in measured if figure.split == "test"]
    return f"{figures[-1].accuracy:.2%} on {figures[-1].dataset}" if figures else ""
