"""What can go wrong with a leakage matrix.

LeakageError
├── MatrixError   the YAML file is wrong; names the key
└── CellError     a cell cannot be had; its reason is written down, the others go on
"""

from __future__ import annotations

__all__ = ["CellError", "LeakageError", "MatrixError"]


class LeakageError(Exception):
    """Base of every error of this package; the message is a sentence."""


class MatrixError(LeakageError):
    """The matrix is wrong somewhere; the sentence names the key."""


class CellError(LeakageError):
    """A cell cannot be had."""
