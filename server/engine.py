"""The engine: a batch of images in, what may leave out; one per device, one call at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from defenses.chain import Chain, Outcome
from defenses.contract import Queries
from defenses.timing import Stopwatch
from models.simplex import GRID, round_to_grid
from server.batches import Computed, Phases
from server.errors import ConfigurationError
from server.evidence import Evidence
from server.metrics import Metrics
from server.seeds import query_seeds
from server.served import ServedModel
from server.tracing import Lap
from server.transfer import bring_back

__all__ = ["Engine", "choose_device"]

logger = logging.getLogger(__name__)


def choose_device(name: str) -> torch.device:
    """The device called ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        ConfigurationError: there is no such device here.
    """
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and devices == 0):
        return torch.device("cpu")
    # By hand: PyTorch counts no further than 127, and takes what is beyond for another device.
    index = int(name.partition(":")[2] or 0)
    if index >= devices:
        raise ConfigurationError(
            f"device: there is no {name}, this machine has {devices} CUDA devices"
        )
    return torch.device("cuda", index)


class Engine:
    """Forward pass and defense chain on one device.

    Not thread-safe: every method but the constructor is called from one and the same thread.

    Args:
        device: where the victims and their chains already are.
        secret: keys the seeds.
        metrics: told how long each part took, and how far the answers moved.
        threads: CPU threads of one forward pass; 0 leaves it to PyTorch.
        evidence: told how sure the victims were, for the audit; None: nobody is.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        secret: bytes,
        metrics: Metrics,
        threads: int = 0,
        evidence: Evidence | None = None,
    ) -> None:
        self._device = device
        self._secret = secret
        self._metrics = metrics
        self._threads = threads
        self._evidence = evidence
        self._staging: dict[tuple[int, ...], Tensor] = {}

    def prepare(self) -> None:
        """Set up the calling thread, which is the one that computes from now on."""
        if self._threads:
            # OpenMP keeps this number per thread, so it is of no use to set it in any other.
            torch.set_num_threads(self._threads)
        if self._device.type == "cuda":
            torch.cuda.set_device(self._device)
            # TF32 rounds to three digits, and differently for each batch size: an image would get
            # several answers, and their mean is closer to the truth than any of them.
            torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
            torch.backends.cuda.matmul.fp32_precision = "ieee"

    def warm_up(self, served: ServedModel, max_batch_size: int) -> None:
        """Compute a batch of one and a full batch of noise, so that no caller pays for firsts.

        Links that remember what was asked are left out: callers must not be answered from noise.

        Raises:
            ConfigurationError: the model or its chain fails even so; names the link, and how.
        """
        forgetful = Chain([link for link in served.chain.links if not link.stateful])
        rehearsed = replace(served, chain=forgetful)
        noise = np.random.default_rng(0)
        for samples in sorted({1, max_batch_size}):
            images = noise.integers(0, 256, (samples, *served.card.input.shape), dtype=np.uint8)
            explain = np.full(samples, served.explainer is not None)
            faults: list[str] = []
            _, outcome, _, _ = self._compute(rehearsed, [images], explain, faults.append)
            if outcome.failed.all():
                # Where the chain has none, it was the explanations' turn.
                why = faults[0] if faults else "its attribution map is not finite"
                raise ConfigurationError(
                    f"models.{served.name}: every answer to {samples} images of noise broke an "
                    f"invariant of the chain {served.chain.name}: {why}"
                )

    def run(
        self,
        served: ServedModel,
        parts: Sequence[NDArray[np.uint8]],
        explain: NDArray[np.bool_] | None = None,
    ) -> Computed:
        """Answers for the concatenation of ``parts``, each ``(m, C, H, W)``: same length and order.

        Maps are made for the images that ``explain`` ``(B,)`` marks, after everything else: the
        probabilities are the same bits whether or not one is asked for.

        Seeds come from the images alone and the victim's probabilities are put on a grid of 1e-5,
        so the answer to an image does not depend on what it was batched with, except where float
        noise (seen: 2e-8) straddles a step of the grid.
        """
        began = time.perf_counter_ns()
        victim, outcome, forward_s, staged = self._compute(served, parts, explain)
        # Whoever times the links has waited for the device by now.
        inferred = time.perf_counter_ns()
        returned = bring_back(victim, outcome)
        failed, answered = returned.failed, ~returned.failed
        if self._evidence is not None:
            self._evidence.saw(served.weights, np.concatenate(parts), returned.confidence)
        self._metrics.computed(
            served.name,
            forward_s=forward_s,
            defenses=[
                (
                    link.kind,
                    outcome.seconds[place],
                    np.minimum(returned.moved[answered, place], 2.0),
                )
                for place, link in enumerate(served.chain.links)
            ],
            distortion=np.minimum(returned.distortion[answered], 2.0),
            top1_changed=int(returned.changed[answered].sum()),
        )
        if failed.any():
            logger.error(
                "%d of %d answers of %s broke an invariant of the chain %s",
                failed.sum(),
                len(failed),
                served.name,
                served.chain.name,
            )
        phases = Phases(staged - began, inferred - staged, time.perf_counter_ns() - inferred)
        laps = (
            Lap("forward", forward_s),
            *(
                Lap("defense", seconds, link.kind)
                for link, seconds in zip(served.chain.links, outcome.seconds, strict=True)
            ),
        )
        if returned.maps is not None:
            rest = phases.infer / 1e9 - sum(lap.seconds for lap in laps)
            laps = (*laps, Lap("explanation", max(0.0, rest)))
        return Computed(returned.probabilities, failed, returned.maps, phases, laps, staged / 1e9)

    @torch.no_grad()
    def _compute(
        self,
        served: ServedModel,
        parts: Sequence[NDArray[np.uint8]],
        explain: NDArray[np.bool_] | None,
        told: Callable[[str], None] | None = None,
    ) -> tuple[Tensor, Outcome, float, int]:
        """What the victim said, what leaves, the seconds of the forward pass, and when it began."""
        host, batch = self._stage(parts)
        seeds = torch.from_numpy(query_seeds(self._secret, served.weights, host))
        images = batch.to(torch.float32).div_(255.0)
        staged = time.perf_counter_ns()
        watch = Stopwatch(self._device)
        watch.mark()
        # Not around the chain: a defense may need gradients, which inference tensors cannot have.
        with torch.inference_mode():
            probabilities = served.victim.logits(images).float().softmax(dim=1)
        watch.mark()
        if probabilities.shape != (len(images), served.card.classes):
            raise ValueError(
                f"{served.weights} yields {tuple(probabilities.shape)} for {len(images)} images "
                f"and {served.card.classes} labels"
            )
        queries = Queries(
            images=images,
            seeds=seeds.to(self._device),
            explain=_marks(explain, len(images)).to(self._device),
            victim=round_to_grid(probabilities, GRID),
        )
        outcome = served.chain.run(queries, told)
        forward_s = watch.laps()[0]
        if explain is None or not explain.any():
            # A link may have made maps all the same; nobody asked for them.
            answers = replace(outcome.answers, attributions=None)
            return queries.victim, replace(outcome, answers=answers), forward_s, staged
        return queries.victim, self._explained(served, queries, outcome), forward_s, staged

    def _explained(self, served: ServedModel, queries: Queries, outcome: Outcome) -> Outcome:
        """The outcome with the maps that were asked for; a row whose map is not finite fails."""
        if served.explainer is None:
            raise ValueError(f"{served.name} has no explanations, and was asked for one")
        watch = Stopwatch(self._device)
        watch.mark()
        maps = served.explainer.maps(queries, outcome.answers)
        watch.mark()
        failed = outcome.failed | ~maps.isfinite().flatten(1).all(dim=1)
        answers = replace(outcome.answers, attributions=maps.masked_fill(failed[:, None, None], 0))
        self._metrics.explained(served.name, watch.laps()[0])
        return replace(outcome, answers=answers, failed=failed)

    def _stage(self, parts: Sequence[NDArray[np.uint8]]) -> tuple[NDArray[np.uint8], Tensor]:
        """The concatenation of ``parts`` on the host and, on its way, on the device."""
        if self._device.type != "cuda":
            # A copy even of one part: what comes from a request's body is read-only.
            host = np.concatenate(parts)
            return host, torch.from_numpy(host)
        samples, shape = sum(map(len, parts)), parts[0].shape[1:]
        pinned = self._staging.get(shape)
        if pinned is None or len(pinned) < samples:
            pinned = torch.empty((samples, *shape), dtype=torch.uint8, pin_memory=True)
            self._staging[shape] = pinned
        pinned = pinned[:samples]
        host = np.concatenate(parts, out=pinned.numpy())
        # The buffer is free again when the answers have come back, which every call waits for.
        return host, pinned.to(self._device, non_blocking=True)


def _marks(explain: NDArray[np.bool_] | None, samples: int) -> Tensor:
    if explain is None:
        return torch.zeros(samples, dtype=torch.bool)
    return torch.from_numpy(explain)
