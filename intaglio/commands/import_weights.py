"""``intaglio models import``: serve what was trained elsewhere."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from intaglio.commands import shared_options
from models.card import InputSpec, Normalisation

if TYPE_CHECKING:
    from intaglio.importing import Description

__all__ = ["import_"]

FITS = get_args(InputSpec.model_fields["fit"].annotation)
FILTERS = get_args(InputSpec.model_fields["resize"].annotation)


@click.command("import")
@click.argument("weights", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", required=True, help="Name of the model.")
@click.option("--version", help="Version of the bundle.  [default: the next number]")
@click.option(
    "--architecture",
    required=True,
    help="A built-in one (lenet, resnet18, ...), or your own: package.module:name or file.py:name.",
)
@click.option(
    "--argument",
    "arguments",
    multiple=True,
    metavar="KEY=VALUE",
    help="Argument of the architecture, for instance width=32. Repeatable.",
)
@click.option(
    "--input",
    "size",
    required=True,
    metavar="CxHxW",
    help="Shape of an image, for instance 3x224x224.",
)
@click.option(
    "--resize",
    type=click.Choice(FILTERS),
    default="bilinear",
    show_default=True,
    help="Filter that resizes images of another size.",
)
@click.option(
    "--fit",
    type=click.Choice(FITS),
    default="stretch",
    show_default=True,
    help="How images of another aspect ratio are made to fit.",
)
@click.option(
    "--normalisation",
    required=True,
    metavar="NAME|MEAN/STD",
    help="How pixels in [0, 1] were normalised in training: imagenet, cifar, mnist, half or none, "
    "or numbers per channel, for instance 0.48,0.45,0.41/0.23,0.22,0.22.",
)
@click.option(
    "--labels",
    metavar="FILE|A,B,C",
    help="Class names in the order of the logits; in a file, one per line.  [default: those of "
    "--data]",
)
@click.option("--description", default="", help="What the model is, in a sentence for people.")
@click.option(
    "--data",
    help="Dataset of the task, to measure accuracy on, and what DeepDefense needs.",
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
@shared_options.allow_factory("--architecture")
def import_(weights: Path, out: Path, **given: Any) -> None:
    """Make a bundle of WEIGHTS, a safetensors file of a network trained elsewhere.

    The file holds the state dict of the network, as safetensors.torch.save_file writes it. A pickle
    (torch.save) is never loaded.
    """
    from intaglio.importing import import_weights
    from intaglio.output_directory import check_place
    from models.bundle import read_card
    from models.errors import ModelsError
    from models.sentence import Sentence
    from models.training.device import choose_device

    try:
        check_place(out)
        path = import_weights(
            weights,
            out,
            given["name"],
            _description(given),
            version=given["version"],
            data=given["data"],
            data_root=given["data_root"],
            device=choose_device(given["device"]),
            allow_factories=given["allow_factories"],
        )
        card = read_card(path)
    except ModelsError as error:
        raise Sentence(str(error)) from error
    for figure in card.networks["victim"].measured:
        click.echo(
            f"test accuracy {figure.accuracy:.2%} ({figure.samples} images of {figure.dataset})"
        )
    click.echo(f"bundle {path}")


def _description(given: dict[str, Any]) -> Description:
    from pydantic import ValidationError

    from intaglio.importing import Description
    from models.validation import first_problem

    size = re.fullmatch(r"(\d+)x(\d+)x(\d+)", given["size"])
    if size is None:
        raise click.BadParameter(f"{given['size']!r} is not CxHxW", param_hint="--input")
    channels, height, width = map(int, size.groups())
    try:
        spec = InputSpec.model_validate(
            {"channels": channels, "height": height, "width": width}
            | {key: given[key] for key in ("resize", "fit")}
        )
    except ValidationError as error:
        problem = first_problem(error, root="size")
        raise click.BadParameter(problem, param_hint="--input") from error
    return Description(
        architecture=given["architecture"],
        input=spec,
        normalisation=_normalisation(given["normalisation"], channels),
        labels=_labels(given["labels"], given["data"], given["data_root"]),
        arguments=dict(map(_argument, given["arguments"])),
        text=given["description"],
    )


def _normalisation(text: str, channels: int) -> Normalisation:
    from pydantic import ValidationError

    from models.normalisation import preset

    if "/" not in text:
        return preset(text, channels)
    try:
        mean, std = (tuple(map(float, part.split(","))) for part in text.split("/"))
        found = Normalisation(mean=mean, std=std)
    except (ValueError, ValidationError) as error:
        raise click.BadParameter(
            f"{text!r} is not MEAN/STD: a number per channel in each, above 0 in STD",
            param_hint="--normalisation",
        ) from error
    if len(found.mean) != channels:
        raise click.BadParameter(
            f"{text!r} is for {len(found.mean)} channels, not {channels}",
            param_hint="--normalisation",
        )
    return found


def _labels(text: str | None, data: str | None, data_root: Path | None) -> Sequence[str]:
    if text is None:
        from models import datasets

        if data is None:
            raise click.UsageError("give --labels, or --data that has them")
        return datasets.load(data, root=data_root).labels
    # Of a list too long for a name of a file, this one says no, and Path.is_file raises.
    is_file = os.path.isfile(text)
    lines = Path(text).read_text("utf-8").splitlines() if is_file else text.split(",")
    return tuple(line.strip() for line in lines if line.strip())


def _argument(text: str) -> tuple[str, bool | int | float | str]:
    from yaml import YAMLError

    from models.strict_yaml import load_yaml

    key, _, value = text.partition("=")
    try:
        found = load_yaml(value)
    except YAMLError:
        found = None
    if not (key.isidentifier() and isinstance(found, bool | int | float | str)):
        raise click.BadParameter(
            f"{text!r} is not KEY=VALUE with a number, a word or a bool", param_hint="--argument"
        )
    return key, found
