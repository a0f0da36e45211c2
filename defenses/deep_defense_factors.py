"""The low-rank form of DeepDefense's weights: a few outer products per layer and query.

A dense layer W meets one vector a per query and, on the way back, one vector d. Whatever is added
to W, the query only ever sees ``dW a`` and ``dW^T d``, and ``dW = c a^T + d e^T`` with free c and e
reaches every pair of those. Two vectors per query say as much as a whole matrix, at ``in + out``
numbers instead of ``in * out``, and the product with W itself is shared by the whole batch.

The gradients are never formed either: that of a layer is ``D X^T`` with D what came back and X what
went in, and inner products of such are inner products of their factors.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from defenses.deep_defense_objective import Goal, Observed, Update, log_odds, objective
from defenses.deep_defense_pass import ChangedNetwork, Met, Pass
from models.explain import GradientInterpreter

__all__ = ["Factors"]

TINY = 1e-300
"""Makes nothing by nothing nothing, in float64."""


class Factors:
    """Weights of B queries as factors of what is added to the victim's.

    ``dW = C V^T + U E^T``, with ``C (out, r)`` and ``E (n, r)`` free. V and U are fixed per query:
    random combinations of the rows and of the columns of the victim's own gradient at that layer,
    which for a dense layer are a and d themselves (r = 1). Their columns are scaled so that a step
    of an optimiser on C moves a layer's output as the same step on every entry of W would. The
    lowest layer has no E: nothing below it listens, unless a map does, made of what comes back.

    Args:
        network: the victim, in evaluation mode; not modified.
        groups: names of the chosen weights; gradients are compared group by group.
        rank: r of a convolution, at least 1.
        images: ``(B, C, H, W)`` in [0, 1].
        labels: y, the victim's top-1, ``(B,)`` int64.
        interpreter: of the network, where maps of y are made too.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        groups: tuple[tuple[str, ...], ...],
        rank: int,
        images: Tensor,
        labels: Tensor,
        interpreter: GradientInterpreter | None = None,
    ) -> None:
        self._groups = groups
        self._labels = labels
        self._interpreter = interpreter
        self._weights = {
            name: value.detach().double() if value.is_floating_point() else value
            for name, value in (*network.named_parameters(), *network.named_buffers())
        }
        self._network = ChangedNetwork(
            network,
            weights=self._weights,
            chosen=[name for group in groups for name in group],
            images=images.double(),
            interpreter=interpreter,
        )
        self._columns: dict[str, Tensor] = {}
        self._still: dict[tuple[str, str], Tensor] = {}
        self._shapes: dict[str, torch.Size] = {}
        with torch.enable_grad():
            self._look(rank)

    @property
    def maps(self) -> Tensor | None:
        """The victim's own maps ``(B, h, w)`` float64; None where none are made."""
        return self._maps

    def start(self, noise: Callable[[int], Tensor], size: float) -> Update:
        """Factors that change weights by about ``size``, relative to their root mean square.

        Args:
            noise: of n, n standard normal numbers for each query: ``(B, n)`` float64.
            size: above 0.
        """
        numbers = noise(sum(shape[1:].numel() for shape in self._shapes.values()))
        update: Update = {}
        for key, shape in self._shapes.items():
            count = shape[1:].numel()
            spread = self._weights[key[:-2]].square().mean().sqrt() * size
            update[key] = numbers[:, :count].reshape(shape) * spread / self._lengths[key]
            numbers = numbers[:, count:]
        return update

    def evaluate(self, update: Update, goal: Goal) -> tuple[Observed, Update]:
        """What the network with these factors says, and the gradient of the objective."""
        with torch.enable_grad():
            leaves = {name: value.detach().requires_grad_() for name, value in update.items()}
            seen = self.observe(leaves)
            gradient = torch.autograd.grad(objective(seen, goal).sum(), list(leaves.values()))
        maps = None if seen.maps is None else seen.maps.detach()
        seen = Observed(seen.log_probabilities.detach(), seen.cosines.detach(), maps)
        return seen, dict(zip(leaves, gradient, strict=True))

    def observe(self, update: Update) -> Observed:
        """What the network with these factors says, and how far its gradients are turned."""

        def change(met: Met) -> Tensor:
            columns = self._seen(met)
            row, column = self._rows[met.name], self._backs[met.name]
            seen = self._kept(met, "seen", lambda: _contracted(row, columns))
            said = _expanded(update[f"{met.name}:C"], seen)
            if not met.moving:
                return said
            return said + _expanded(column, _contracted(update[f"{met.name}:E"], columns))

        made = self._network(change)
        logits = made.logits
        back = self._back(made, create_graph=True)
        cosines = []
        for group in self._groups:
            dot, square, reference = (torch.zeros_like(logits[:, 0]) for _ in range(3))
            for name in group:
                mine, theirs = (back[name], self._columns[name]), self._reference[name]
                dot = dot + self._inner(name, theirs, mine)
                square = square + self._inner(name, mine, mine)
                reference = reference + self._squares[name]
            cosines.append(dot / (square * reference + TINY).sqrt())
        maps = self._explained(made, create_graph=True)
        return Observed(torch.log_softmax(logits, dim=1), torch.stack(cosines, dim=1), maps)

    def _look(self, rank: int) -> None:
        """The victim as it is: fixes V and U, and remembers its gradients."""
        moving = set()

        def probe(met: Met) -> Tensor:
            columns = self._seen(met)
            if met.moving:
                moving.add(met.name)
            return torch.zeros(
                met.shape, dtype=columns.dtype, device=columns.device
            ).requires_grad_()

        made = self._network(probe)
        self._maps = self._explained(made, create_graph=False)
        back = self._back(made, create_graph=False)
        self._reference: dict[str, tuple[Tensor, Tensor]] = {}
        self._squares: dict[str, Tensor] = {}
        self._rows: dict[str, Tensor] = {}
        self._backs: dict[str, Tensor] = {}
        self._lengths: dict[str, Tensor] = {}
        generator = torch.Generator().manual_seed(0)
        for name, returned in back.items():
            columns = self._columns[name].detach()
            self._reference[name] = pair = (returned, columns)
            self._squares[name] = self._inner(name, pair, pair)
            rows, backs = columns, returned
            if columns.shape[2] > 1:
                left, right = (
                    torch.randn(side, rank, generator=generator, dtype=torch.float64).to(returned)
                    for side in (returned.shape[1], columns.shape[1])
                )
                rows = columns @ (returned.transpose(1, 2) @ left)
                backs = returned @ (columns.transpose(1, 2) @ right)
            self._rows[name], self._lengths[f"{name}:C"] = _scaled(rows)
            self._shapes[f"{name}:C"] = backs.shape
            self._backs[name], lengths = _scaled(backs)
            if name in moving:
                self._shapes[f"{name}:E"], self._lengths[f"{name}:E"] = rows.shape, lengths

    def _back(self, made: Pass, *, create_graph: bool) -> dict[str, Tensor]:
        """D of every chosen layer ``(B, out, P)``: the gradient of y's log-odds by its output."""
        odds = log_odds(made.logits, self._labels).sum()
        outputs = [layer.output for layer in made.passed.values()]
        parts = torch.autograd.grad(odds, outputs, create_graph=create_graph)
        pairs = zip(made.passed.items(), parts, strict=True)
        return {name: layer.positions(part) for (name, layer), part in pairs}

    def _explained(self, made: Pass, *, create_graph: bool) -> Tensor | None:
        """Maps of y ``(B, h, w)`` where any are made; the graph of the pass is kept."""
        if self._interpreter is None or made.values is None:
            return None
        logit = made.logits.gather(1, self._labels[:, None]).sum()
        (gradient,) = torch.autograd.grad(
            logit, made.values, create_graph=create_graph, retain_graph=True
        )
        maps = self._interpreter.combine(made.values, gradient)
        return maps if create_graph else maps.detach()

    def _seen(self, met: Met) -> Tensor:
        columns = self._kept(met, "columns", met.columns)
        self._columns[met.name] = columns
        return columns

    def _kept(self, met: Met, what: str, compute: Callable[[], Tensor]) -> Tensor:
        if met.moving:
            return compute()
        key = (met.name, what)
        if key not in self._still:
            self._still[key] = compute()
        return self._still[key]

    def _inner(self, name: str, one: tuple[Tensor, Tensor], two: tuple[Tensor, Tensor]) -> Tensor:
        """``<D X^T, D' X'^T>`` for each query, the cheaper way round."""
        (back, seen), (back_, seen_) = one, two
        positions, outputs, inputs = seen.shape[2], back.shape[1], seen.shape[1]
        still = not (seen.requires_grad or seen_.requires_grad)
        if positions * (outputs + (0 if still else inputs)) > outputs * inputs:
            product = (back @ seen.transpose(1, 2)) * (back_ @ seen_.transpose(1, 2))
            return product.sum(dim=(1, 2))
        if not still:
            gram = _contracted(seen, seen_)
        elif (name, "gram") in self._still:
            gram = self._still[name, "gram"]
        else:
            gram = self._still[name, "gram"] = _contracted(seen, seen_)
        return (_expanded(back, gram) * back_).sum(dim=(1, 2))


def _contracted(left: Tensor, right: Tensor) -> Tensor:
    """``left^T right``; a product of single columns is no matter for a matrix product."""
    if left.shape[2] == right.shape[2] == 1:
        return (left * right).sum(dim=1, keepdim=True)
    return left.transpose(1, 2) @ right


def _expanded(left: Tensor, right: Tensor) -> Tensor:
    """``left right``."""
    return left * right if left.shape[2] == 1 else left @ right


def _scaled(columns: Tensor) -> tuple[Tensor, Tensor]:
    """Columns of length 1 times the sum of their magnitudes; and that sum ``(B, 1, r)``."""
    unit = columns / (columns.norm(dim=1, keepdim=True) + TINY)
    total = unit.abs().sum(dim=1, keepdim=True)
    return unit * total, total.clamp_min(1.0)
