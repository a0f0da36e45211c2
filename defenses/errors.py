"""What can go wrong with defenses; all of it before the first query.

    DefenseError
    ├── UnknownDefense     no defense of that kind; names the kinds there are
    ├── OptionError        an option is unknown, missing or out of range; names the key
    ├── MissingRole        a network that the defense needs is not in the bundle
    └── OrderError         links in an order that disarms one of them; names both

Each message is one sentence. At run time nothing is raised for a query: a row that
breaks an invariant is marked in ``Outcome.failed`` and fails alone.
"""

from __future__ import annotations

__all__ = ["DefenseError", "MissingRole", "OptionError", "OrderError", "UnknownDefense"]


class DefenseError(Exception):
    """Base of every error raised by this package."""


class UnknownDefense(DefenseError):
    """There is no defense of that kind."""


class OptionError(DefenseError):
    """An option of a defense is unknown, missing or out of range."""


class MissingRole(DefenseError):
    """A defense needs a network that no bundle supplies."""


class OrderError(DefenseError):
    """Two links stand in an order that silently disarms one of them."""
