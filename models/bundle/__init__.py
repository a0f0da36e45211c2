"""Bundles: a card and its weights on disk, trusted only as far as they are checked.

A bundle is a directory ``NAME/VERSION/`` holding ``card.json`` and one safetensors file per
network. Nothing in it is ever unpickled or executed.
"""

from __future__ import annotations

from models.bundle.extending import add_codebook
from models.bundle.finding import find_bundles, resolve_bundle
from models.bundle.reading import Bundle, open_bundle, read_card
from models.bundle.victim import load_victim
from models.bundle.writing import NetworkSource, write_bundle

__all__ = [
    "Bundle",
    "NetworkSource",
    "add_codebook",
    "find_bundles",
    "load_victim",
    "open_bundle",
    "read_card",
    "resolve_bundle",
    "write_bundle",
]
