"""What can go wrong with defenses; all of it before the first query.

    DefenseError
    ├── UnknownDefense     no defense of that kind; names the kinds there are
    ├── PluginError        an installed plug-in is not a defense, or takes a name that is taken
    ├── OptionError        an option is unknown, missing or out of range; names the key
    ├── MissingRole        a network that the defense needs is not in the bundle
    └── OrderError         links in an order that disarms one of them; names both

Each message is one sentence that begins with the place in the configuration
(``defenses[1].k: ...``) where there is one. At run time nothing is raised for a query: a row that
breaks an invariant is marked in ``Outcome.failed`` and fails alone.
"""

from __future__ import annotations

__all__ = [
    "DefenseError",
    "MissingRole",
    "OptionError",
    "OrderError",
    "PluginError",
    "UnknownDefense",
]


class DefenseError(Exception):
    """Base of every error raised by this package."""


class UnknownDefense(DefenseError):
    """There is no defense of that kind."""


class PluginError(DefenseError):
    """An installed plug-in cannot be used as the defense that it says it is."""


class OptionError(DefenseError):
    """An option of a defense is unknown, missing or out of range.

    Attributes:
        option: the option, with its place in the configuration where that is known.
        problem: what is wrong with it.
    """

    def __init__(self, option: str, problem: str) -> None:
        super().__init__(option, problem)
        self.option = option
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.option}: {self.problem}"


class MissingRole(DefenseError):
    """A defense needs a network that no bundle supplies."""


class OrderError(DefenseError):
    """Two links stand in an order that silently disarms one of them."""
