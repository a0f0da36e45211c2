"""What can go wrong with networks, bundles and datasets.

    ModelsError
    ├── BundleError            a bundle cannot be read, or must not be trusted
    │   ├── BundleNotFound     nothing there
    │   └── FactoryRefused     the card names code that the operator has not allowed
    ├── ArchitectureError      unknown architecture, wrong arguments
    ├── ExplanationError       a network cannot be explained in this way
    ├── DatasetError           a dataset is malformed or unsuitable
    │   └── DatasetNotFound    says where it was looked for and how to get it
    ├── ImageError             an image cannot be made to fit a model's input
    └── TrainingError          training cannot go on
        └── NotFiniteError     a loss term became NaN or infinite; names term and step

Every message is one sentence that a person can act on. HTTP statuses belong to
``server.errors``; nothing here knows about the wire.
"""

from __future__ import annotations

__all__ = [
    "ArchitectureError",
    "BundleError",
    "BundleNotFound",
    "DatasetError",
    "DatasetNotFound",
    "ExplanationError",
    "FactoryRefused",
    "ImageError",
    "ModelsError",
    "NotFiniteError",
    "TrainingError",
]


class ModelsError(Exception):
    """Base of every error raised by this package."""


class BundleError(ModelsError):
    """A bundle cannot be read, or must not be trusted."""


class BundleNotFound(BundleError):
    """There is no bundle at the given place."""


class FactoryRefused(BundleError):
    """A card names a factory that the operator has not allowed to be called."""


class ArchitectureError(ModelsError):
    """An architecture is unknown or was given arguments that it does not take."""


class ExplanationError(ModelsError):
    """A network cannot be explained: no such layer, or an operation without a rule."""


class DatasetError(ModelsError):
    """A dataset is malformed or does not suit its use."""


class DatasetNotFound(DatasetError):
    """A dataset is not where it was looked for; the message says where and how to get it."""


class ImageError(ModelsError):
    """An image cannot be made to fit a model's input."""


class TrainingError(ModelsError):
    """Training cannot go on."""


class NotFiniteError(TrainingError):
    """A loss term became NaN or infinite; the message names the term and the step."""
