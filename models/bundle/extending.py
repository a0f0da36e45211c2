"""A further version of a bundle: the same networks, and a codebook."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from safetensors.torch import save
from torch import Tensor

from models.bundle.finding import CARD, next_version
from models.bundle.publishing import publish
from models.bundle.reading import Bundle
from models.card import CodebookCard
from models.errors import BundleError
from models.simplex import on_simplex

__all__ = ["add_codebook"]


def add_codebook(
    bundle: Bundle,
    kind: str,
    words: Tensor,
    *,
    epsilon: float,
    datasets: Sequence[str],
    samples: int,
) -> Bundle:
    """Write the next free version of ``bundle``, with ``words`` for the defense ``kind``.

    A bundle is never changed, so this is another one: its networks are the same bytes.

    Args:
        bundle: whose answers the words are.
        kind: of the defense; a codebook for it that ``bundle`` has is left behind.
        words: ``(n, K)`` float32 on the simplex, in their order.
        epsilon: L1 distance within which an answer shares a word.
        datasets: what the calibration images are from.
        samples: how many they were.

    Raises:
        BundleError: the words are not of this bundle's classes, or a file is not what it was.
    """
    old = bundle.card
    if words.ndim != 2 or words.shape[1] != old.classes or not on_simplex(words):
        raise BundleError(f"codebook {kind}: words must be probabilities of {old.classes} classes")
    data = save({"words": words.contiguous()})
    file = f"codebook.{kind}.safetensors"
    described = CodebookCard(
        datasets=tuple(datasets),
        samples=samples,
        epsilon=epsilon,
        words=len(words),
        file=file,
        sha256=hashlib.sha256(data).hexdigest(),
    )
    root = bundle.path.absolute().parents[1]
    version = next_version(root, old.name)
    card = old.model_copy(
        update={"version": version, "codebooks": {**old.codebooks, kind: described}}
    )
    kept = {network.file: network.sha256 for network in old.networks.values()}
    kept |= {codebook.file: codebook.sha256 for codebook in old.codebooks.values()}
    files = {name: bundle.content(name, sha256) for name, sha256 in kept.items()}
    files[file] = data
    files[CARD] = (card.model_dump_json(indent=2) + "\n").encode()
    return bundle.at(publish(root, old.name, version, files), card)
