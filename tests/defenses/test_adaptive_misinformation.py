from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from defenses.adaptive_misinformation import AdaptiveMisinformation
from defenses.contract import Answers, Material
from defenses.errors import OptionError
from models.card import Calibration
from tests.defenses.toys import calibration, card, images, network, queries

CLASSES = 4


class Recording(nn.Module):
    """Always says the same, and notes how many images it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.shown.append(images.shape[0])
        return torch.tensor([[0.0, 0.0, 0.0, 50.0]]).expand(images.shape[0], -1)


WRONG = torch.tensor([0.0, 0.0, 0.0, 1.0])
SURE = [0.9, 0.1, 0.0, 0.0]
UNSURE = [0.4, 0.3, 0.2, 0.1]


def defended(said: Tensor, threshold: float, steepness: float = 1000.0) -> Tensor:
    link = AdaptiveMisinformation(
        misinformation=Recording(), threshold=threshold, steepness=steepness
    )
    return link.apply(queries(said), Answers(said)).probabilities


def test_sure_queries_get_the_victim_and_unsure_ones_get_misinformation() -> None:
    said = torch.tensor([SURE, UNSURE])
    served = defended(said, threshold=0.5)
    torch.testing.assert_close(served[0], said[0])
    torch.testing.assert_close(served[1], WRONG)


def test_at_the_threshold_each_network_has_half() -> None:
    said = torch.tensor([UNSURE])
    torch.testing.assert_close(defended(said, threshold=0.4)[0], (said[0] + WRONG) / 2)


@pytest.mark.parametrize("offset", [-0.002, 0.001, 0.003])
def test_the_blend_is_a_sigmoid_of_the_distance(offset: float) -> None:
    weight = 1 / (1 + torch.exp(torch.tensor(-1000.0 * offset)))
    served = defended(torch.tensor([UNSURE]), threshold=0.4 + offset)
    expected = (1 - weight) * torch.tensor(UNSURE) + weight * WRONG
    torch.testing.assert_close(served[0], expected, atol=1e-4, rtol=0)


def test_skipping_asks_the_other_network_about_few_and_says_the_same() -> None:
    said = torch.tensor([SURE, UNSURE, SURE, UNSURE, SURE])
    network = Recording()
    link = AdaptiveMisinformation(misinformation=network, threshold=0.5, skip=True)
    served = link.apply(queries(said), Answers(said)).probabilities
    torch.testing.assert_close(served, defended(said, threshold=0.5), atol=2e-6, rtol=0)
    assert network.shown == [2]
    assert link.timing_leak
    sure = said[:1]
    torch.testing.assert_close(link.apply(queries(sure), Answers(sure)).probabilities, sure)
    assert network.shown == [2]


def test_both_networks_see_every_query_unless_told_otherwise() -> None:
    network = Recording()
    link = AdaptiveMisinformation(misinformation=network, threshold=0.5)
    said = torch.tensor([SURE, SURE])
    link.apply(queries(said), Answers(said))
    assert network.shown == [2]
    assert not link.timing_leak


def test_the_steepest_switch_does_not_overflow() -> None:
    served = defended(torch.tensor([SURE, UNSURE]), threshold=0.5, steepness=1e6)
    assert served.isfinite().all()
    torch.testing.assert_close(served[1], WRONG)


def test_both_networks_see_every_query_whatever_is_decided() -> None:
    for said in ([SURE] * 5, [UNSURE] * 5, [SURE, UNSURE, SURE, SURE, UNSURE]):
        wrong = Recording()
        link = AdaptiveMisinformation(misinformation=wrong, threshold=0.5)
        asked = queries(torch.tensor(said))
        link.apply(asked, Answers(asked.victim))
        assert wrong.shown == [5]
    assert AdaptiveMisinformation.timing_leak is False


def test_it_decides_from_the_victim_not_from_what_was_made_of_it() -> None:
    link = AdaptiveMisinformation(misinformation=Recording(), threshold=0.5)
    asked = queries(torch.tensor([UNSURE]))
    sure = Answers(torch.tensor([SURE]))
    torch.testing.assert_close(link.apply(asked, sure).probabilities[0], WRONG)


def test_it_promises_no_label_and_covers_maps_too() -> None:
    assert AdaptiveMisinformation.keeps_top1 is False
    assert {output.value for output in AdaptiveMisinformation.covers} == {
        "attributions",
        "probabilities",
    }


def with_calibrations(calibrations: dict[str, Calibration]) -> Material:
    return Material(card(CLASSES, calibrations=calibrations), {"misinformation": network(4, 1)})


@pytest.mark.parametrize(
    ("cost", "threshold"),
    [(0.0, 0.2), (0.002, 0.4), (0.01, 0.6), (0.0099, 0.4), (0.5, 0.8), ("0.01", 0.6)],
)
def test_a_benign_cost_is_looked_up(cost: float | str, threshold: float) -> None:
    resolved = AdaptiveMisinformation.resolve(
        {"benign_cost": cost, "steepness": 5.0}, with_calibrations({"am": calibration()})
    )
    assert resolved == {"threshold": threshold, "steepness": 5.0}


def test_the_largest_threshold_is_taken_even_if_a_smaller_one_costs_more() -> None:
    bumpy = calibration().model_copy(update={"accuracies": (0.95, 0.92, 0.945, 0.9)})
    resolved = AdaptiveMisinformation.resolve(
        {"benign_cost": 0.01}, with_calibrations({"am": bumpy})
    )
    assert resolved == {"threshold": 0.6}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "threshold: am needs either threshold or benign_cost"),
        (
            {"threshold": 0.5, "benign_cost": 0.01},
            "benign_cost: give either threshold or benign_cost, not both",
        ),
        (
            {"benign_cost": 1},
            "benign_cost: must be a share of answers between 0 and 0.5 (0.01 is one point), "
            "not 1.0",
        ),
        (
            {"benign_cost": "little"},
            "benign_cost: input should be a valid number, unable to parse string as a number, "
            "not 'little'",
        ),
    ],
)
def test_what_cannot_be_resolved_is_said_in_a_sentence(
    options: dict[str, object], sentence: str
) -> None:
    with pytest.raises(OptionError) as refused:
        AdaptiveMisinformation.resolve(options, with_calibrations({"am": calibration()}))
    assert str(refused.value) == sentence


def test_a_cost_needs_a_calibration_and_a_cheap_enough_row() -> None:
    with pytest.raises(OptionError, match="toy/1 holds no calibration for am"):
        AdaptiveMisinformation.resolve({"benign_cost": 0.01}, with_calibrations({}))
    dear = calibration().model_copy(update={"reference": 0.99})
    with pytest.raises(OptionError, match=r"cheapest costs 0\.0390 on 1000 images of toy"):
        AdaptiveMisinformation.resolve({"benign_cost": 0.01}, with_calibrations({"am": dear}))


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_out_of_range_is_refused(threshold: float) -> None:
    with pytest.raises(OptionError, match="threshold: must be between 0 and 1"):
        AdaptiveMisinformation(misinformation=Recording(), threshold=threshold)


@pytest.mark.parametrize("steepness", [0.0, -1.0, 1e7, float("nan")])
def test_a_steepness_out_of_range_is_refused(steepness: float) -> None:
    with pytest.raises(OptionError, match="steepness: must be above 0"):
        AdaptiveMisinformation(misinformation=Recording(), threshold=0.5, steepness=steepness)


def test_its_pictures_reach_the_other_network_unchanged() -> None:
    wrong = network(CLASSES, seed=1)
    link = AdaptiveMisinformation(misinformation=wrong, threshold=1.0)
    pictures = images(6, seed=3)
    said = torch.tensor([UNSURE]).expand(6, -1)
    served = link.apply(queries(said, pictures=pictures), Answers(said)).probabilities
    torch.testing.assert_close(served, torch.softmax(wrong(pictures), dim=1), atol=1e-6, rtol=0)
