"""Every objective that a recipe may name, on toy networks, with what the loop must supply."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import nn

from defenses.training.adaptive_misinformation import AdaptiveMisinformation
from defenses.training.ensemble_of_diverse_models import EnsembleOfDiverseModels
from defenses.training.isolation_induction import IsolationInduction
from defenses.training.nasty import Nasty
from defenses.training.outlier_exposure import OutlierExposure
from defenses.training.sparse_teacher import AdversarialSparseTeacher, SparseTeacher
from models.training.cross_entropy import CrossEntropy
from models.training.data import TrainingData
from models.training.objective import Objective
from tests.training.toys import network, problem, strangers

OBJECTIVES: Mapping[str, Callable[[], Objective]] = {
    "plain": lambda: CrossEntropy(trained()),
    "am": lambda: AdaptiveMisinformation(trained(), network(2, dropout=0.3)),
    "edm": lambda: EnsembleOfDiverseModels(network(9), trained(), network(2, dropout=0.3)),
    "nasty": lambda: Nasty(trained(), network(2), omega=0.3, ramp_epochs=2.5),
    "stt": lambda: SparseTeacher(trained(), network(2), alpha=0.3),
    "ast": lambda: AdversarialSparseTeacher(trained(), network(2), alpha=0.3),
    "ini": lambda: IsolationInduction(trained(), network(2), epsilon=20.0),
    "outlier-exposure": lambda: OutlierExposure(trained()),
}


FORMS: Mapping[str, Callable[[], Objective]] = {
    "am, lambda 0.5": lambda: AdaptiveMisinformation(trained(), network(2), lambda_oe=0.5),
    "nasty, as printed": lambda: Nasty(trained(), network(2), direction="base-teacher"),
    "stt, kl": lambda: SparseTeacher(trained(), network(2), alpha=0.3, loss="kl"),
    "stt, mean": lambda: SparseTeacher(trained(), network(2), alpha=0.9, reduction="mean"),
    "ast, kl, zeroed": lambda: AdversarialSparseTeacher(
        trained(), network(2), alpha=0.3, loss="kl", rest="zeroed"
    ),
    "ini, the text's": lambda: IsolationInduction(
        trained(), network(2), isolation="ce_vc", induction="kl", gradient_norm="l2", epsilon=0.1
    ),
    "ini, concatenated": lambda: IsolationInduction(
        trained(), network(2), epsilon=20.0, ood_bn="concatenated"
    ),
    "outlier-exposure, separate": lambda: OutlierExposure(trained(), ood_bn="separate"),
}
"""Forms other than the default whose gradients are those of their losses. Not among them, since
gradients stop there on purpose: AST's own answers as a target, InI's clone that is trained, running
statistics that strangers are shown with."""


def trained() -> nn.Module:
    """The network that becomes the victim, with dropout: it draws random numbers."""
    return network(1, dropout=0.3)


def data_for(objective: Objective) -> TrainingData:
    """Images, and strangers and pairs where ``objective`` needs them."""
    data = problem(ood=objective.needs_ood)
    if objective.needs_paired:
        data = replace(data, paired=strangers(len(data.images), 4))
    return data


def in_float64(objective: Objective) -> Objective:
    """Every network of ``objective`` in double precision and without dropout."""
    for held in (objective.networks, objective.frozen):
        for module in held.values():
            module.double()
            for layer in module.modules():
                if isinstance(layer, nn.Dropout):
                    layer.p = 0.0
    torch.manual_seed(0)
    return objective
