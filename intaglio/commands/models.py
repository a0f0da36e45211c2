"""``intaglio models``: what there is to serve."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

    from models.card import Card

__all__ = ["models"]


@click.group()
def models() -> None:
    """List and show bundles."""


@models.command("list")
@click.option(
    "--models",
    "root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="Directory that holds NAME/VERSION bundles.",
)
def list_(root: Path) -> None:
    """List every bundle, oldest version first; weights are not read."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from models.bundle import find_bundles, read_card
    from models.errors import BundleError

    console = Console()
    bundles = find_bundles(root)
    if not bundles:
        console.print(f"There is no bundle under {root}.", markup=False)
        return
    table = Table("bundle", "input", "classes", "networks", "test accuracy", box=box.SIMPLE_HEAD)
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
    console.print(table)
    for message in broken:
        click.echo(f"Error: {message}", err=True)
    if broken:
        raise SystemExit(2)


@models.command()
@click.argument("name")
@click.option(
    "--models",
    "root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="Directory that holds NAME/VERSION bundles.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the card as it is on disk.")
def show(name: str, root: Path, *, as_json: bool) -> None:
    """Show the card of NAME or NAME/VERSION and check the files it describes.

    Code that a card names is neither imported nor run.
    """
    from rich.console import Console

    from models.bundle import open_bundle, read_card, resolve_bundle
    from models.errors import BundleError

    try:
        path = resolve_bundle(root, name)
        card = read_card(path)
        named = {network.architecture for network in card.networks.values()}
        open_bundle(path, allow_factories={entry for entry in named if ":" in entry})
    except BundleError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(2) from error
    if as_json:
        click.echo(card.model_dump_json(indent=2))
    else:
        _print_card(Console(), card)


def _print_card(console: Console, card: Card) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    console.print(Text(f"{card.name}/{card.version}", style="bold"))
    if card.description:
        console.print(card.description, markup=False)
    shown = card.labels if len(card.labels) <= 20 else (*card.labels[:20], "…")
    facts = Table.grid(padding=(0, 2))
    facts.add_row(
        "input",
        f"{'x'.join(map(str, card.input.shape))}, {card.input.resize} {card.input.fit}, "
        f"background {card.input.background}",
    )
    facts.add_row(f"labels ({card.classes})", Text(", ".join(shown)))
    for kind, calibration in card.calibrations.items():
        facts.add_row(
            f"calibration {kind}",
            f"{len(calibration.thresholds)} thresholds on {calibration.samples} validation images "
            f"of {calibration.dataset}, reference accuracy {calibration.reference:.2%}",
        )
    for kind, codebook in card.codebooks.items():
        facts.add_row(
            f"codebook {kind}",
            f"{codebook.words:,} words within {codebook.epsilon:g} of {codebook.samples:,} answers "
            f"to images of {', '.join(codebook.datasets)}",
        )
    if card.measured:
        facts.add_row(
            f"ensemble of {len(card.members)}",
            ", ".join(
                f"{figure.dataset} {figure.split} {figure.accuracy:.2%} of {figure.samples:,}"
                for figure in card.measured
            ),
        )
    console.print(facts)
    networks = Table(
        "role", "architecture", "parameters", "trained", "measured", box=box.SIMPLE_HEAD
    )
    for role, network in card.networks.items():
        arguments = ", ".join(f"{key}={value}" for key, value in network.arguments.items())
        training = network.training
        networks.add_row(
            role,
            Text(network.architecture + (f"({arguments})" if arguments else "")),
            f"{network.parameters:,}",
            "elsewhere"
            if training is None
            else f"{training.objective} on {training.data}"
            + (f" against {training.ood}" if training.ood else "")
            + f", {training.epochs} epochs, seed {training.seed}, {training.selection}"
            + (", deterministic" if training.deterministic else ""),
            "\n".join(
                f"{figure.dataset} {figure.split} {figure.accuracy:.2%} of {figure.samples:,}"
                for figure in network.measured
            ),
        )
    console.print(networks)


def _test_accuracy(card: Card) -> str:
    network = card.networks.get("victim") or next(iter(card.networks.values()))
    measured = card.measured or network.measured
    figures = [figure for figure in measured if figure.split == "test"]
    return f"{figures[-1].accuracy:.2%} on {figures[-1].dataset}" if figures else ""
