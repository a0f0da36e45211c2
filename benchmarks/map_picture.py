"""Maps of the victim and the ones that DeepDefense lets leave, side by side.

    python -m benchmarks.map_picture MODELS --data-root DIR

The first test images of MNIST, one of each digit, nothing chosen: above as the victim's own map has
them, below as they leave. A withheld map is all cold.
"""

from __future__ import annotations

import io
from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image

from benchmarks.envelope import IMAGES
from benchmarks.map_answers import ask, serve
from models.datasets import load
from server.heat_map import heat_map

SUBJECTS = ("none", "deepdefense")


@click.command()
@click.argument("models", type=click.Path(exists=True, path_type=Path))
@click.option("--data-root", type=click.Path(path_type=Path), envvar="INTAGLIO_DATA_ROOT")
def main(models: Path, data_root: Path | None) -> None:
    """Draw ``docs/images/defenses/deepdefense.png``."""
    torch.set_num_threads(1)
    engine, served = serve(models, SUBJECTS)
    mnist = load("mnist", root=data_root)
    _, first = np.unique(mnist.test_labels, return_index=True)
    images = mnist.test_images[first]
    lines = []
    for subject in SUBJECTS:
        _, maps, _ = ask(engine, served[subject], images, None)
        extent = served[subject].map_extent
        shown = [
            Image.open(io.BytesIO(heat_map(image, field, extent))).resize((112, 112))
            for image, field in zip(images, maps, strict=True)
        ]
        lines.append(np.concatenate([np.asarray(each) for each in shown], axis=1))
    between = np.full((8, *lines[0].shape[1:]), 255, dtype=np.uint8)
    path = IMAGES / "defenses" / "deepdefense.png"
    Image.fromarray(np.concatenate([lines[0], between, lines[1]])).save(path, "PNG")


if __name__ == "__main__":
    main()
