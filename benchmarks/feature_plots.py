"""Features of victims' last hidden layers, on their own images and on strangers, side by side.

    python -m benchmarks.feature_plots --models bundles --data mnist --ood fashion_mnist NAMES...

A panel for each bundle, as in InI's Appendix D: what enters the layer that makes the logits, drawn
in two dimensions by t-SNE (or PCA), images in the colour of their class and strangers as black
crosses. Two dimensions show neighbourhoods; distances between groups mean little. Beside each name
stands what can be measured in all dimensions: how far strangers lie from the nearest image, in mean
distances of an image from its own nearest neighbour.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models import datasets
from models.bundle import load_victim, open_bundle, resolve_bundle
from models.errors import ModelsError
from models.preprocessing import fit_arrays
from models.training.data import to_unit

BATCH = 256
NEIGHBOURS = 1


@dataclass(frozen=True, slots=True)
class Features:
    """Of one victim.

    Attributes:
        name: of its bundle.
        known: ``(N, F)``, of images.
        labels: ``(N,)``, their classes.
        strange: ``(M, F)``, of strangers.
    """

    name: str
    known: NDArray[np.float32]
    labels: NDArray[np.int64]
    strange: NDArray[np.float32]

    def apart(self) -> float:
        """Mean distance of strangers from the nearest image over that of images from theirs."""
        from sklearn.neighbors import NearestNeighbors

        near = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(self.known)
        # Asked without points, it leaves each point out of its own neighbours.
        own, others = near.kneighbors()[0].mean(), near.kneighbors(self.strange)[0].mean()
        return float(others / max(own, 1e-12))


def penultimate(network: nn.Module, images: Tensor) -> Tensor:
    """What enters the last linear layer of ``network``, ``(N, F)`` float32.

    Args:
        network: in evaluation mode.
        images: ``(N, C, H, W)`` uint8.

    Raises:
        ValueError: it has no linear layer.
    """
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ValueError("the network has no linear layer, so that none makes its logits")
    seen: list[Tensor] = []
    handle = linear[-1].register_forward_pre_hook(
        lambda _, given: seen.append(given[0].flatten(1).float().cpu())
    )
    try:
        with torch.inference_mode():
            for part in torch.split(images, BATCH):
                network(to_unit(part, "cpu"))
    finally:
        handle.remove()
    return torch.cat(seen)


def features_of(
    name: str, models: Path, data: str, ood: str, *, limit: int, data_root: Path | None
) -> Features:
    """The features of a bundle's victim, or of an ensemble's first member.

    Args:
        name: NAME or NAME/VERSION under ``models``.
        models: where bundles are kept.
        data: whose test images are its own kind.
        ood: whose test images are strangers.
        limit: images of each, at most; the same for every bundle.
        data_root: where datasets are looked for.
    """
    bundle = open_bundle(resolve_bundle(models, name))
    network = load_victim(bundle).module(0)

    def some(dataset: str) -> tuple[Tensor, NDArray[np.int64]]:
        loaded = datasets.load(dataset, root=data_root)
        chosen = np.random.default_rng(0).permutation(len(loaded.test_images))[:limit]
        shown = fit_arrays(loaded.test_images[chosen], bundle.card.input)
        return torch.from_numpy(np.ascontiguousarray(shown)), loaded.test_labels[chosen]

    images, labels = some(data)
    strangers, _ = some(ood)
    known, strange = (penultimate(network, shown).numpy() for shown in (images, strangers))
    return Features(name, known, labels, strange)


def flattened(features: Features, method: str) -> NDArray[np.float32]:
    """All features in two dimensions, ``(N + M, 2)``, by ``tsne`` or ``pca``."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    both = np.concatenate([features.known, features.strange])
    if method == "pca":
        flat = PCA(2, random_state=0).fit_transform(both)
    else:
        perplexity = min(30.0, (len(both) - 1) / 3)
        flat = TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(both)
    return np.asarray(flat, dtype=np.float32)


def draw(panels: list[Features], method: str, path: Path) -> None:
    """One panel for each of ``panels``, side by side, into the PNG ``path``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4 * len(panels), 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, features in zip(np.ravel(figure.subplots(1, len(panels))), panels, strict=True):
        flat = flattened(features, method)
        known, strange = np.split(flat, [len(features.known)])
        axes.scatter(*known.T, c=features.labels, cmap="tab10", s=6)
        axes.scatter(*strange.T, c="black", marker="x", s=8, linewidths=0.6, label="strangers")
        axes.set_title(f"{features.name}: strangers at {features.apart():.1f}x", fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.legend(loc="upper right", fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=130, metadata={"Software": None})


@click.command()
@click.argument("names", nargs=-1, required=True)
@click.option("--models", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--data", required=True, help="Dataset of the victims.")
@click.option("--ood", required=True, help="Dataset of strangers.")
@click.option("--data-root", type=click.Path(path_type=Path), envvar="INTAGLIO_DATA_ROOT")
@click.option("--method", type=click.Choice(["tsne", "pca"]), default="tsne", show_default=True)
@click.option("--limit", type=click.IntRange(min=10), default=1000, show_default=True)
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("runs/features.png"), show_default=True
)
def main(
    *,
    names: tuple[str, ...],
    models: Path,
    data: str,
    ood: str,
    data_root: Path | None,
    method: str,
    limit: int,
    out: Path,
) -> None:
    """Draw the features of the victims NAMES."""
    torch.set_num_threads(1)
    try:
        panels = [
            features_of(name, models, data, ood, limit=limit, data_root=data_root) for name in names
        ]
    except (ModelsError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    for features in panels:
        click.echo(f"{features.name}: strangers at {features.apart():.2f} times the distance")
    draw(panels, method, out)
    click.echo(f"wrote {out}")


if __name__ == "__main__":
    main()
