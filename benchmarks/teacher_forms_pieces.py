"""What ``benchmarks.teacher_forms`` compares: teachers one change away from shipped recipes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from intaglio.recipe import Recipe, load_recipe

__all__ = ["AST", "FORMS", "NASTY", "PLAIN", "PLAN", "STT", "Form", "Found", "Seen"]

PLAN = ("data.train_limit=3000", "data.validation_fraction=0.02", "plan.epochs=6",
        "plan.batch_size=64")  # fmt: skip
PLAIN = "plain"
NASTY, STT, AST = "nasty: as shipped", "stt: as shipped", "ast: as shipped"


@dataclass(frozen=True, slots=True)
class Form:
    """A teacher and how it is served.

    Attributes:
        recipe: shipped.
        changes: to the recipe.
        against: whose teacher it is compared with.
        served: ``whole``, ``label-only`` or ``stingy``.
    """

    recipe: str
    changes: tuple[str, ...] = ()
    against: str = PLAIN
    served: str = "whole"

    def trained(self, name: str, seed: int) -> Recipe:
        """How its weights are made, as NAME/1; those of the base are ``plain/1``."""
        base = () if self.recipe == "fashion-lenet" else (f"objective.base={PLAIN}/1",)
        own = (f"plan.seed={seed}", f"name={name}", "version=1")
        return load_recipe(self.recipe, (*PLAN, *base, *self.changes, *own))

    def digest(self) -> str:
        """Of what makes the teacher and its answers, its seed aside."""
        said = self.trained("form", 0).model_dump_json(
            exclude={"description", "reproduces", "measured"}
        )
        return hashlib.sha256(f"{self.served} {said}".encode()).hexdigest()[:12]


def _nasty(*changes: str) -> Form:
    options = tuple(f"objective.options.{change}" for change in changes)
    return Form("fashion-lenet-nasty", options, NASTY)


def _ast(*changes: str) -> Form:
    options = tuple(f"objective.options.{change}" for change in changes)
    return Form("fashion-lenet-ast", options, AST)


FORMS: Mapping[str, Form] = {
    PLAIN: Form("fashion-lenet"),
    "plain, labels only": Form("fashion-lenet", served="label-only"),
    "plain, behind stingy 0.2": Form("fashion-lenet", served="stingy"),
    NASTY: Form("fashion-lenet-nasty"),
    "nasty: omega the paper's, 0.004": _nasty("omega=0.004"),
    "nasty: divergence as printed": _nasty("direction=base-teacher"),
    "nasty: as printed, omega 0.004": _nasty("omega=0.004", "direction=base-teacher"),
    STT: Form("fashion-lenet-stt"),
    AST: Form("fashion-lenet-ast"),
    "ast: target its own, equation 3": _ast("target=self"),
    "ast: KL for EPD": _ast("loss=kl"),
    "ast: EPD's mean over classes": _ast("reduction=mean"),
    "ast: logits zeroed, not excluded": _ast("rest=zeroed"),
    "ast: alpha 0.05": _ast("alpha=0.05"),
    "ast: alpha 0.15": _ast("alpha=0.15"),
    "ast: alpha 0.6": _ast("alpha=0.6"),
    "ast: tau 2": _ast("tau=2"),
    "ast: tau 20": _ast("tau=20"),
    "ast: sparsity 0.1": _ast("sparsity=0.1"),
    "ast: sparsity 1": _ast("sparsity=1"),
}
"""Teachers by what is said of them; the first is the base of the others."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a teacher came to with one seed; accuracies are on the test set.

    Attributes:
        benign: of the teacher.
        entropy: mean of its answers to the test set, base 10.
        student: of the student that a thief would keep.
        lesson: how that one was taught.
        scratch: of the student who heard the labels alone.
    """

    benign: float
    entropy: float
    student: float
    lesson: str
    scratch: float


Found = Mapping[str, Sequence[Seen | None]]
"""By form and seed; None where training did not survive."""
