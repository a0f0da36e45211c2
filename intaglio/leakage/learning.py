"""How clones learn, of the two attacks in which they do so in a way of their own."""

from __future__ import annotations

from attack_client.attacks.attribution_objective import MapMatching
from attack_client.attacks.attribution_study import AttributionStudy
from attack_client.attacks.distil_objective import Lesson
from attack_client.attacks.distil_study import DistilStudy
from attack_client.campaign import Study
from intaglio.leakage.entries import AttackEntry, DefenseEntry
from intaglio.leakage.errors import MatrixError

__all__ = ["study_of"]


def study_of(name: str, attack: AttackEntry, defense: DefenseEntry) -> Study | None:
    """The study of ``attack``; None where clones learn from answers alone.

    One setting each, by default the published one: with several, the best of them would have to
    be chosen.

    Args:
        name: of the attack in the table.
        attack: its entry.
        defense: what it is run on; a clone is made to look by its interpreter unless ``learn``
            names another.

    Raises:
        MatrixError: ``learn`` says something else than that attack can be told.
    """
    kind = attack.attack or name
    learn = dict(attack.learn)
    try:
        if kind == "distil":
            return DistilStudy([Lesson(**learn)])  # type: ignore[arg-type]
        if kind == "attribution":
            theirs = (defense.explanations or {}).get("interpreter", MapMatching().interpreter)
            return AttributionStudy([MapMatching(**{"interpreter": str(theirs), **learn})])  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise MatrixError(f"attacks.{name}.learn: {_plain(error)}") from error
    if learn:
        raise MatrixError(f"attacks.{name}.learn: it belongs to distil and attribution, not {kind}")
    return None


def _plain(error: Exception) -> str:
    """Without the name of a constructor, which nobody wrote."""
    text = str(error)
    return text.partition("() got an ")[2] or text
