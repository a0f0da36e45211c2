"""Opening a bundle: every claim of the card is checked before a weight is used."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from models import architectures
from models.bundle.finding import CARD
from models.bundle.weights import check_finite, check_match, from_bytes, instantiate, skeleton
from models.card import LARGEST_CODEBOOK, Card, NetworkCard
from models.errors import ArchitectureError, BundleError, BundleNotFound
from models.simplex import on_simplex, top1
from models.validation import first_problem

__all__ = ["LARGEST_CARD", "Bundle", "open_bundle", "read_card"]

LARGEST_CARD = 4 * 2**20
"""Bytes; a real card with every calibration table is a tenth of it."""


class Bundle:
    """A bundle whose card and files have been checked; made by ``open_bundle``."""

    def __init__(self, path: Path, card: Card, *, allow_factories: Collection[str] = ()) -> None:
        self._path = path
        self._card = card
        self._allow_factories = frozenset(allow_factories)

    def __repr__(self) -> str:
        return f"Bundle({self._card.name}/{self._card.version})"

    @property
    def path(self) -> Path:
        """The directory ``NAME/VERSION``."""
        return self._path

    @property
    def card(self) -> Card:
        """What the bundle says of itself."""
        return self._card

    def load(self, role: str, device: torch.device | str = "cpu") -> nn.Module:
        """The network of ``role``, in evaluation mode with gradients off, on ``device``.

        The bytes that are hashed are the bytes that are parsed.

        Raises:
            BundleError: no such role, or a file that changed, is malformed, does not fit its
                architecture exactly, or holds values that are not finite.
        """
        network = self._network(role)
        source = str(self._path / network.file)
        tensors = from_bytes(self.content(network.file, network.sha256), source)
        expected = skeleton(
            network.architecture,
            network.arguments,
            input=self._card.input,
            outputs=network.outputs,
            normalisation=network.normalisation,
            where=f"{self._path / CARD}: networks.{role}",
        )
        if expected is not None:
            check_match(tensors, expected, source=source, architecture=network.architecture)
        check_finite(tensors, source)
        module = instantiate(
            network.architecture,
            network.arguments,
            input=self._card.input,
            outputs=network.outputs,
            normalisation=network.normalisation,
            where=f"{self._path / CARD}: networks.{role}",
            allow_factories=self._allow_factories,
        )
        if expected is None:
            check_match(
                tensors, module.state_dict(), source=source, architecture=network.architecture
            )
        module.load_state_dict(tensors, strict=True)
        return module.eval().requires_grad_(False).to(device)

    def at(self, path: Path, card: Card) -> Bundle:
        """The bundle at ``path`` that ``card`` describes, with what this one was allowed."""
        return Bundle(path, card, allow_factories=self._allow_factories)

    def content(self, file: str, sha256: str) -> bytes:
        """The bytes of a file of this bundle, which are those that its card describes.

        Raises:
            BundleError: it is missing, no regular file, or has another hash.
        """
        data = _regular_file(self._path, file).read_bytes()
        _check_hash(hashlib.sha256(data).hexdigest(), sha256, str(self._path / file))
        return data

    def codebook(self, kind: str, device: torch.device | str = "cpu") -> Tensor:
        """The words ``(n, K)`` float32 for the defense ``kind``, in their order, on ``device``.

        Raises:
            BundleError: there is no such codebook, it is not n probability vectors, or one class
                has more than its share of the most that a codebook may hold.
        """
        held = self._card.codebooks.get(kind)
        if held is None:
            raise BundleError(
                f"bundle {self._card.name}/{self._card.version} has no codebook for {kind}"
            )
        source = str(self._path / held.file)
        tensors = from_bytes(self.content(held.file, held.sha256), source)
        words = tensors.get("words")
        shape = (held.words, self._card.classes)
        if len(tensors) != 1 or words is None or words.shape != shape:
            raise BundleError(f"{source} must hold one tensor, words {shape[0]}x{shape[1]}")
        if words.dtype != torch.float32 or not on_simplex(words):
            raise BundleError(f"{source}: every word must be a float32 probability vector")
        most = max(1, LARGEST_CODEBOOK // self._card.classes)
        # A table of words is as long for every class as for the longest.
        if (longest := int(top1(words).bincount().max())) > most:
            raise BundleError(
                f"{source}: a class has {longest} words, and of {self._card.classes} classes each "
                f"may have {most}"
            )
        return words.to(device)

    def _network(self, role: str) -> NetworkCard:
        try:
            return self._card.networks[role]
        except KeyError:
            raise BundleError(
                f"bundle {self._card.name}/{self._card.version} has no network {role!r}: it has "
                f"{', '.join(self._card.networks)}"
            ) from None


def open_bundle(path: Path, *, allow_factories: Collection[str] = ()) -> Bundle:
    """Check a bundle's card, its files and their hashes.

    Args:
        path: the directory ``NAME/VERSION``.
        allow_factories: factories (``package.module:name``, ``file.py:name``) that the operator
            allows a card to name.

    Raises:
        BundleNotFound: there is no card at ``path``.
        FactoryRefused: the card names code that is not in ``allow_factories``.
        BundleError: anything else that does not hold; names the key or file.
    """
    card = read_card(path)
    for role, network in card.networks.items():
        try:
            architectures.check(network.architecture, allow_factories=allow_factories)
        except ArchitectureError as error:
            raise BundleError(f"{path / CARD}: networks.{role}.architecture: {error}") from error
        file = _regular_file(path, network.file)
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        _check_hash(digest, network.sha256, str(file))
    bundle = Bundle(path, card, allow_factories=allow_factories)
    for codebook in card.codebooks.values():
        bundle.content(codebook.file, codebook.sha256)
    return bundle


def read_card(path: Path) -> Card:
    """The card of the bundle at ``path``; weights are neither read nor checked.

    Raises:
        BundleNotFound: there is no card at ``path``.
        BundleError: the card is too large, no JSON, against the schema, or speaks of another
            name or version than its directory's.
    """
    if not (path / CARD).exists():
        raise BundleNotFound(f"{path} is not a bundle: it holds no {CARD}")
    file = _regular_file(path, CARD)
    with file.open("rb") as stream:
        data = stream.read(LARGEST_CARD + 1)
    if len(data) > LARGEST_CARD:
        raise BundleError(f"{file} is larger than {LARGEST_CARD} bytes, the limit for a card")
    try:
        card = Card.model_validate(json.loads(data))
    except ValidationError as error:
        raise BundleError(f"{file}: {first_problem(error, root='card')}") from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{file} is not JSON: {error}") from error
    directory = Path(os.path.abspath(path))
    for key, stated, found in (
        ("version", card.version, directory.name),
        ("name", card.name, directory.parent.name),
    ):
        if stated != found:
            raise BundleError(f"{file}: {key} is {stated!r} but its directory is {found!r}")
    return card


def _regular_file(directory: Path, name: str) -> Path:
    # A link could point a bundle's reader at any file of the machine, a pipe could hang it.
    file = directory / name
    if file.is_symlink() or not file.is_file():
        state = "is not a regular file" if os.path.lexists(file) else "is missing"
        raise BundleError(f"{file} {state}: a bundle holds its own files, and no links")
    return file


def _check_hash(digest: str, stated: str, source: str) -> None:
    if digest != stated:
        raise BundleError(
            f"{source} is not the file its card describes: sha256 is {digest[:12]}…, the card "
            f"says {stated[:12]}…"
        )
