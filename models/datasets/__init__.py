"""Images by name: bundled, downloaded, or from a file or folder of your own."""

from __future__ import annotations

from models.datasets.catalogue import load, names
from models.datasets.dataset import Dataset

__all__ = ["Dataset", "load", "names"]
