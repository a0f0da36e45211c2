"""Getting at the activations of a layer of a network that was not written to show them."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from models.architectures.normalised import Normalised
from models.errors import ExplanationError

__all__ = ["Tap", "cam_layer"]

LAST_STAGES = ("layer4", "conv5", "activation")
"""Where our residual networks end before they pool: torchvision's ResNet and ShuffleNetV2, ours."""


class Tap:
    """A ``Forward`` through a network, tapped at one layer.

    Args:
        call: the forward pass, images ``(B, C, H, W)`` to logits ``(B, K)``: a module, or a
            function that calls it, for instance with other weights
            (``lambda images: torch.func.functional_call(network, weights, (images,))``).
        layer: the module whose output is tapped. ``call`` runs it exactly once.
    """

    def __init__(self, call: Callable[[Tensor], Tensor], layer: nn.Module) -> None:
        self._call = call
        self._layer = layer

    def __call__(self, images: Tensor, bump: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See ``Forward``."""

        def move(activations: Tensor) -> Tensor:
            # A layer that follows may work in place: what was seen must not change under it.
            return activations.clone() if bump is None else activations + bump

        return self.rerouted(images, move)

    def rerouted(self, images: Tensor, move: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Logits ``(B, K)`` with ``move(activations)`` in their place, and the activations.

        Raises:
            ExplanationError: the layer does not run exactly once, or has no map as its output.
        """
        seen: list[Tensor] = []

        def show(module: nn.Module, inputs: object, output: object) -> object:
            del module, inputs
            if not isinstance(output, Tensor) or output.ndim != 4:
                raise ExplanationError("the layer to take maps at does not give (B, N, h, w)")
            seen.append(output)
            return move(output)

        handle = self._layer.register_forward_hook(show)
        try:
            logits = self._call(images)
        finally:
            handle.remove()
        if len(seen) != 1:
            raise ExplanationError(
                f"the layer to take maps at runs {len(seen)} times in a forward pass, not once"
            )
        return logits, seen[0]


def cam_layer(network: nn.Module, name: str | None = None) -> nn.Module:
    """The layer of ``network`` called ``name``, or the one that class activation maps are taken at.

    That is the last activated layer before the final pooling: of a network with a sequence
    ``features`` its last ReLU, of residual networks the end of the last stage, of anything else
    the last convolution that was put into it.

    Args:
        network: with or without its normalisation around it.
        name: dotted name below the normalisation, as in ``features.4`` or ``layer2``.

    Raises:
        ExplanationError: there is no such layer, or no convolution.
    """
    inner = network.network if isinstance(network, Normalised) else network
    if name is not None:
        try:
            return inner.get_submodule(name)
        except AttributeError:
            raise ExplanationError(f"the network has no layer {name!r}") from None
    features = getattr(inner, "features", None)
    if isinstance(features, nn.Sequential):
        activated = [module for module in features if isinstance(module, nn.ReLU)]
        if activated:
            return activated[-1]
    for stage in LAST_STAGES:
        module = getattr(inner, stage, None)
        if isinstance(module, nn.Module):
            return module
    convolutions = [module for module in inner.modules() if isinstance(module, nn.Conv2d)]
    if not convolutions:
        raise ExplanationError("the network has no convolution that could be mapped")
    return convolutions[-1]
