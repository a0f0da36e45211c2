"""A card as people read it: what is shown to the model, then a block for each network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from models.card import Card, Measurement, NetworkCard, TrainingCard
from models.console import print_table

__all__ = ["print_card"]

SHOWN_LABELS = 20


def print_card(console: Console, card: Card) -> None:
    """Print ``card``; lines longer than the console is wide go on below, nothing is cut off."""
    console.print(Text(f"{card.name}/{card.version}", style="bold"))
    if card.description:
        console.print(Text(card.description))
    _print(console, _facts(card))
    for role, network in card.networks.items():
        console.print()
        console.print(Text(f"network {role}", style="bold"))
        _print(console, _network_facts(network))


def _print(console: Console, facts: Iterable[tuple[str, str]]) -> None:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for key, value in facts:
        grid.add_row(Text(f"  {key}"), Text(value))
    print_table(console, grid, highlight=False)


def _facts(card: Card) -> Iterator[tuple[str, str]]:
    labels = [*card.labels[:SHOWN_LABELS], *("…" for _ in card.labels[SHOWN_LABELS:][:1])]
    spec = card.input
    size = "x".join(map(str, spec.shape))
    yield "input", f"{size}, {spec.resize} {spec.fit}, background {spec.background}"
    yield f"labels ({card.classes})", ", ".join(labels)
    for kind, table in card.calibrations.items():
        yield (
            f"calibration {kind}",
            f"{len(table.thresholds)} thresholds on {table.samples} validation images of "
            f"{table.dataset}, reference accuracy {table.reference:.2%}",
        )
    for kind, codebook in card.codebooks.items():
        yield (
            f"codebook {kind}",
            f"{codebook.words:,} words within {codebook.epsilon:g} of {codebook.samples:,} answers "
            f"to images of {', '.join(codebook.datasets)}",
        )
    if card.measured:
        yield f"ensemble of {len(card.members)}", _measured(card.measured)


def _network_facts(network: NetworkCard) -> Iterator[tuple[str, str]]:
    arguments = ", ".join(f"{key}={value}" for key, value in network.arguments.items())
    named = network.architecture + (f"({arguments})" if arguments else "")
    yield "architecture", f"{named}, {network.parameters:,} parameters"
    yield from _training_facts(network.training)
    if network.measured:
        yield "measured", _measured(network.measured)


def _training_facts(training: TrainingCard | None) -> Iterator[tuple[str, str]]:
    if training is None:
        yield "trained", "elsewhere"
        return
    against = f" against {training.ood}" if training.ood else ""
    if training.ood_shape is not None:
        against += f", fitted from {'x'.join(map(str, training.ood_shape))}"
    yield "trained", f"{training.objective} on {training.data}{against}"
    epochs = "1 epoch" if training.epochs == 1 else f"{training.epochs} epochs"
    exact = ", deterministic" if training.deterministic else ""
    yield "", f"{epochs}, seed {training.seed}, weights: {training.selection}{exact}"
    objective = training.recipe.get("objective")
    if isinstance(objective, dict):
        options = objective.get("options")
        if isinstance(options, dict) and options:
            yield "options", ", ".join(f"{key} {value}" for key, value in options.items())
        if objective.get("base"):
            yield "base", str(objective["base"])
    if training.recipe.get("reproduces"):
        yield "reproduces", str(training.recipe["reproduces"])


def _measured(figures: Iterable[Measurement]) -> str:
    return ", ".join(
        f"{figure.accuracy:.2%} of {figure.samples:,} {figure.dataset} {figure.split} images"
        for figure in figures
    )
