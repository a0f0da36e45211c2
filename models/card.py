"""The card of a bundle: what it holds, where it came from, how well it did.

A card is data. Reading one never runs code: an architecture is a name that the
operator's own registry resolves, and a file is named, sized and hashed.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue, PositiveInt, StringConstraints, model_validator

from models.card_tables import LARGEST_CODEBOOK, Calibration, CodebookCard, Sensitivity
from models.record import Name, Record, Role, Sha256, Share

__all__ = [
    "LARGEST_CODEBOOK",
    "LARGEST_ENSEMBLE",
    "Calibration",
    "Card",
    "CodebookCard",
    "InputSpec",
    "Measurement",
    "Name",
    "NetworkCard",
    "Normalisation",
    "Sensitivity",
    "TrainingCard",
]

LARGEST_ENSEMBLE = 64
"""Members that a bundle may hold."""


class InputSpec(Record):
    """What a model is shown, and how any image becomes that.

    Attributes:
        channels: 1 (grey) or 3 (RGB).
        height: rows in pixels.
        width: columns in pixels.
        resize: the filter used when an image has another size.
        fit: ``stretch`` ignores the aspect ratio, ``crop`` keeps it and cuts the centre,
            ``pad`` keeps it and fills with ``background``.
        background: grey level 0..255 put behind transparency and padding.
    """

    channels: Literal[1, 3]
    height: Annotated[int, Field(ge=1, le=4096)]
    width: Annotated[int, Field(ge=1, le=4096)]
    resize: Literal["nearest", "box", "bilinear", "bicubic", "lanczos"] = "bilinear"
    fit: Literal["stretch", "crop", "pad"] = "stretch"
    background: Annotated[int, Field(ge=0, le=255)] = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(C, H, W)``."""
        return (self.channels, self.height, self.width)


class Normalisation(Record):
    """Per-channel ``(x - mean) / std``, applied inside the network to pixels in [0, 1]."""

    mean: tuple[float, ...] = Field(min_length=1, max_length=3)
    std: tuple[Annotated[float, Field(ge=1e-6)], ...] = Field(min_length=1, max_length=3)

    @model_validator(mode="after")
    def _same_length(self) -> Normalisation:
        if len(self.mean) != len(self.std):
            raise ValueError("mean and std must have one entry per channel each")
        return self


class TrainingCard(Record):
    """How a network came to be.

    Attributes:
        objective: name of the training objective, for instance ``plain`` or ``am``.
        data: name of the training set.
        ood: name of the out-of-distribution set, where the objective used one.
        ood_shape: ``(C, H, W)`` of its images where that is not the network's input: they were
            resized, or their colours changed, to fit.
        seed: the seed of initialisation, order, augmentation and dropout; which images are held
            out is the recipe's own choice.
        epochs: epochs trained.
        selection: which epoch's weights these are: the last, or the best on validation.
        deterministic: whether only kernels were used that give the same bits again.
        recipe: the whole recipe as it was run, overrides included.
    """

    objective: str
    data: str
    ood: str | None = None
    ood_shape: tuple[int, int, int] | None = None
    seed: int
    epochs: PositiveInt
    selection: Literal["last", "best-on-validation"]
    deterministic: bool = False
    recipe: dict[str, JsonValue]


class Measurement(Record):
    """One measured figure: accuracy on one split of one dataset."""

    dataset: str
    split: Literal["validation", "test"]
    samples: PositiveInt
    accuracy: Share


class NetworkCard(Record):
    """One network of a bundle.

    Attributes:
        architecture: a registered name (``lenet``), or ``package.module:factory`` /
            ``/path/file.py:factory`` for the operator's own, which is called only if allowed.
        arguments: keyword arguments of the architecture besides channels, size and outputs.
        outputs: number of logits K.
        normalisation: applied inside the network.
        file: file name inside the bundle, always ``<role>.safetensors``.
        sha256: of that file.
        parameters: number of parameters, for people.
        training: how it was made; None for weights that came from elsewhere.
        measured: what was measured of it.
    """

    architecture: str
    arguments: dict[str, bool | int | float | str] = Field(default_factory=dict)
    outputs: Annotated[int, Field(ge=1, le=1_000_000)]
    normalisation: Normalisation
    file: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,31}\.safetensors$")]
    sha256: Sha256
    parameters: PositiveInt
    training: TrainingCard | None = None
    measured: tuple[Measurement, ...] = ()


class Card(Record):
    """``card.json``: everything about a bundle but the weights.

    Attributes:
        format: version of this schema.
        name: the directory above the version.
        version: the directory that holds the card; versions sort as numbers where they are.
        description: a sentence for people.
        input: what the model is shown.
        labels: K class names, in the order of the logits of the ``victim``.
        networks: the networks by role: ``victim``, ``misinformation``, ``hash``. Those of an
            ensemble are ``victim``, which is its member 0, ``member-1``, ``member-2`` and so on.
        calibrations: tables from which a defense picks its threshold, by kind of defense.
        codebooks: words that a defense answers with, by kind of defense.
        sensitivity: of the victim's layers, where it was measured.
        measured: what was measured of an ensemble as it is served, each image answered by its
            own member; empty where one network answers, which has figures of its own.
    """

    format: Literal[1] = 1
    name: Name
    version: Name
    description: str = ""
    input: InputSpec
    labels: tuple[str, ...] = Field(min_length=2)
    networks: dict[Role, NetworkCard] = Field(min_length=1)
    calibrations: dict[str, Calibration] = Field(default_factory=dict)
    codebooks: dict[Role, CodebookCard] = Field(default_factory=dict)
    sensitivity: Sensitivity | None = None
    measured: tuple[Measurement, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Card:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels must be distinct")
        for role, network in self.networks.items():
            if network.file != f"{role}.safetensors":
                raise ValueError(f"networks.{role}.file must be {role}.safetensors")
            if len(network.normalisation.mean) != self.input.channels:
                raise ValueError(
                    f"networks.{role}.normalisation must have {self.input.channels} channels"
                )
        for kind, codebook in self.codebooks.items():
            if codebook.file != f"codebook.{kind}.safetensors":
                raise ValueError(f"codebooks.{kind}.file must be codebook.{kind}.safetensors")
        victim = self.networks.get("victim")
        if victim is not None and victim.outputs != len(self.labels):
            raise ValueError(
                f"networks.victim has {victim.outputs} outputs but there are "
                f"{len(self.labels)} labels"
            )
        self._check_ensemble()
        return self

    def _check_ensemble(self) -> None:
        """An ensemble is whole: members without a gap, alike in what they say, and their hash."""
        others = {role for role in self.networks if role.startswith("member-")}
        if "hash" not in self.networks:
            if others:
                raise ValueError(f"networks.{min(others)} needs a network hash that routes to it")
            return
        if not 1 <= len(others) < LARGEST_ENSEMBLE:
            raise ValueError(
                f"networks.hash routes to 2 to {LARGEST_ENSEMBLE} members: victim, member-1 and "
                f"so on, not to {1 + len(others)}"
            )
        if missing := {*self.members, "victim"} - self.networks.keys():
            raise ValueError(
                f"networks: there are {1 + len(others)} members to route to, and none is called "
                f"{min(missing)}"
            )
        for role in self.members:
            if (outputs := self.networks[role].outputs) != len(self.labels):
                raise ValueError(
                    f"networks.{role} has {outputs} outputs but there are {len(self.labels)} labels"
                )
        if self.networks["hash"].outputs < 2:
            raise ValueError("networks.hash must have at least 2 outputs")

    @property
    def members(self) -> tuple[str, ...]:
        """Roles of the networks that answer, as they are routed to; of most bundles the victim."""
        if "hash" not in self.networks:
            return ("victim",)
        others = sum(role.startswith("member-") for role in self.networks)
        return ("victim", *(f"member-{number}" for number in range(1, others + 1)))

    @property
    def classes(self) -> int:
        """Number of labels K."""
        return len(self.labels)
