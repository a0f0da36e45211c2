"""The stages of ``reproduce.sh``: what each trains, and what it steals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from models.training.plan import Augment

__all__ = ["SMOKE", "STAGES", "Stage"]

SMOKE: Mapping[str, str] = {
    "mnist": "digits",
    "fashion_mnist": "letters",
    "cifar10": "digits",
    "cifar100": "letters",
    "kmnist_t10k": "symbols",
}
"""Bundled stand-ins of ``--smoke``, which has no data root: enough to run, too little to quote."""

RESNET = (
    "architecture.name=resnet18", "plan.channels_last=true", "plan.optimiser.lr=0.1",
)  # fmt: skip
INI = (
    "plan.optimiser.momentum=0.5", "plan.optimiser.weight_decay=0.001", "plan.combiner=pcgrad",
    "objective.options.epsilon=1000",
)  # fmt: skip
PAPER_FORM = (
    "objective.options.isolation=ce_vc", "objective.options.induction=kl",
    "objective.options.gradient_norm=l2", "objective.options.epsilon=0.24",
)  # fmt: skip
"""What the row ini-table-5/paper-form makes of the code's form."""

FASHION = ("data.train=fashion_mnist",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """At most one training and one attack of one victim.

    Attributes:
        row: the row of which table this is.
        bundle: NAME of the victim; version 1.
        recipe: shipped; None where the victim's weights come from an earlier stage.
        changes: to the recipe, as ``--set`` takes them.
        epochs: of the victim, shortened to fit into ten minutes; ``EPOCHS`` overrides it.
        published_epochs: of the paper or its code.
        needs: NAMEs of bundles of earlier stages.
        attack: kind; ``small-pools`` for ``benchmarks.composite_pools``, which has its own clones.
        clones: architectures, one attack each; the answers are paid for once.
        pool: surrogate pool of KnockoffNets, or the victim's own data.
        test: the victim's task.
        budget: as ``--budget`` takes it.
        clone_epochs: of a clone; ``CLONE_EPOCHS`` overrides it.
        augment: what the clones' training does to their images.
        defense: name in reports.
    """

    row: str
    bundle: str
    recipe: str | None = None
    changes: Sequence[str] = field(default=())
    epochs: int = 0
    published_epochs: int
    needs: Sequence[str] = field(default=())
    attack: str = "knockoff"
    clones: Sequence[str] = ("resnet18",)
    pool: str
    test: str
    budget: str = "50000"
    clone_epochs: int = 6
    augment: Augment = "none"
    defense: str = "none"


def _knockoff(family: str, test: str, pool: str, extra: Sequence[str]) -> dict[str, Stage]:
    """InI Table 2 in one data set: plain, and InI in the code's and the paper's form."""
    plain = f"{family}-resnet18"
    ini = (*RESNET, *INI, *extra, "data.ood=kmnist_t10k")

    def stage(name: str, recipe: str, changes: Sequence[str], epochs: int, defense: str) -> Stage:
        return Stage(
            row=f"InI Table 2, {test}, {defense}",
            bundle=name,
            recipe=recipe,
            changes=changes,
            epochs=epochs,
            published_epochs=50,
            needs=() if name == plain else (plain,),
            pool=pool,
            test=test,
            defense=defense,
        )

    return {
        f"{family}-plain": stage(plain, "mnist-lenet", (*RESNET, *extra), 6, "none"),
        f"{family}-ini": stage(f"{plain}-ini", "mnist-lenet-ini", ini, 4, "ini"),
        f"{family}-ini-paper": stage(
            f"{plain}-ini-paper",
            "mnist-lenet-ini",
            (*ini, *PAPER_FORM),
            4,
            "ini-paper",
        ),
    }


def _students(bundle: str, defense: str, needs: Sequence[str]) -> Stage:
    return Stage(
        row=f"AST Table 1, students of {defense}",
        bundle=bundle,
        published_epochs=160,
        needs=needs,
        attack="distil",
        clones=("cnn5", "resnet20"),
        pool="cifar10",
        test="cifar10",
        budget="all",
        clone_epochs=12,
        augment="crop-flip",
        defense=defense,
    )


def _mimicking(attack: str, name: str) -> Stage:
    """Composite images and what they are compared with: as many queries about the same pool."""
    return Stage(
        row=f"composite images, Table 4, {name}",
        bundle=BASE,
        published_epochs=100,
        needs=(BASE,),
        attack=attack,
        pool="cifar100",
        test="cifar10",
        budget="25000",
        clone_epochs=15,
    )


BASE = "cifar10-resnet18"
STAGES: Mapping[str, Stage] = {
    # In place of EMNIST, the paper's pool, Fashion-MNIST and MNIST.
    **_knockoff("mnist", "mnist", "fashion_mnist", ()),
    **_knockoff("fashion", "fashion_mnist", "mnist", FASHION),
    "cifar10-base": Stage(
        row="AST Table 1, base",
        bundle=BASE,
        recipe=BASE,
        epochs=20,
        published_epochs=160,
        attack="",
        pool="cifar10",
        test="cifar10",
    ),
    "cifar10-ast": Stage(
        row="AST Table 1, AST",
        bundle=f"{BASE}-ast",
        recipe=f"{BASE}-ast",
        epochs=10,
        published_epochs=160,
        needs=(BASE,),
        attack="",
        pool="cifar10",
        test="cifar10",
        defense="ast",
    ),
    "cifar10-base-students": _students(BASE, "none", (BASE,)),
    "cifar10-ast-students": _students(f"{BASE}-ast", "ast", (BASE, f"{BASE}-ast")),
    "cifar10-standard": _mimicking("knockoff", "standard mimicking"),
    "cifar10-composite": _mimicking("composite", "composite images"),
    "cifar10-small-pools": Stage(
        row="composite images of a small pool",
        bundle=BASE,
        published_epochs=100,
        needs=(BASE,),
        attack="small-pools",
        pool="cifar100",
        test="cifar10",
    ),
}
"""By name; a stage follows those whose bundles it needs."""
