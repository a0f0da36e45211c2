"""MNIST stolen with Fashion-MNIST, by the commands a user would type.

    python -m benchmarks.mnist_from_fashion [--data-root DIR] [--ood kmnist]

Trains a plain LeNet and an Adaptive Misinformation pair, serves them behind several defenses from
one server, and runs ``intaglio attack knockoff`` against each with 50,000 queries. A step is
skipped if its result is already under ``runs/mnist``: a stopped run goes on where it was.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import torch
import yaml

from attack_client.report import Row, describe_environment, read_json, write_curves
from attack_client.transfer_files import TRANSFER
from attack_client.transfer_set import TransferSet
from benchmarks.envelope import IMAGES, RESULTS
from intaglio.processes import serving
from models.bundle import open_bundle
from models.training.evaluate import probabilities

PLAIN = "mnist-lenet/1"
PAIR = "mnist-lenet-am/1"
BUDGETS = "1000,10000,50000"
THRESHOLD = 0.5
# Links that keep the top-1 leave hard labels as they were: their hard row is the one of "none".
SERVED: dict[str, dict[str, Any]] = {
    "none": {"victim": PLAIN, "defenses": [], "labels": "soft,hard"},
    "label-only": {"victim": PLAIN, "defenses": [{"kind": "label-only"}], "labels": "hard"},
    "stingy": {
        "victim": PLAIN, "defenses": [{"kind": "stingy", "ratio": 0.2}], "labels": "soft",
    },
    "rounding": {
        "victim": PLAIN, "defenses": [{"kind": "rounding", "decimals": 1}], "labels": "soft",
    },
    "reverse-sigmoid": {
        "victim": PLAIN, "defenses": [{"kind": "reverse-sigmoid"}], "labels": "soft",
    },
    "am": {
        "victim": PAIR, "defenses": [{"kind": "am", "threshold": THRESHOLD}], "labels": "soft,hard",
    },
}  # fmt: skip


def run(*command: str) -> None:
    """Run one ``intaglio`` command, output to the terminal."""
    sys.stdout.write("$ intaglio " + " ".join(command) + "\n")
    sys.stdout.flush()
    subprocess.run([str(Path(sys.executable).with_name("intaglio")), *command], check=True)


def answered_by_victim(bundle: Path, stolen: Path) -> float:
    """Share of a transfer set's images that the victim of ``bundle`` answers itself."""
    with TransferSet.read(stolen) as transfer_set:
        images, _ = transfer_set.prefix(transfer_set.complete)
    sure = probabilities(open_bundle(bundle).load("victim"), torch.from_numpy(images))
    return float((sure.max(dim=1).values >= THRESHOLD).float().mean())


@click.command()
@click.option("--data-root", type=click.Path(path_type=Path), envvar="INTAGLIO_DATA_ROOT")
@click.option("--ood", default="kmnist", help="Out-of-distribution set of the pair.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/mnist"))
def main(data_root: Path | None, ood: str, out: Path) -> None:
    """Train, serve, steal, report."""
    if data_root is not None:
        os.environ["INTAGLIO_DATA_ROOT"] = str(data_root)
    models = out / "models"
    train = ("train", "mnist-lenet", "--out", str(models))
    train_pair = (
        "train", "mnist-lenet-am", "--out", str(models),
        "--set", f"data.ood={ood}", "--set", f"objective.reference={models / PLAIN}",
    )  # fmt: skip
    for bundle, command in ((PLAIN, train), (PAIR, train_pair)):
        if not (models / bundle).is_dir():
            run(*command)
    config = out / "serve.yaml"
    served = {
        name: {"victim": entry["victim"], "defenses": entry["defenses"]}
        for name, entry in SERVED.items()
    }
    config.write_text(yaml.safe_dump({"models": served}, sort_keys=False))
    commands = [["intaglio", *train], ["intaglio", *train_pair]]
    commands.append(["intaglio", "serve", "--models", str(models), "--config", str(config)])
    rows: list[Row] = []
    with serving(models, "--config", str(config), log=out / "server.log") as server:
        for name, entry in SERVED.items():
            attack = [
                "attack", "knockoff", "--model", name, "--pool", "fashion_mnist", "--test", "mnist",
                "--budget", BUDGETS, "--labels", entry["labels"], "--clone", "lenet",
                "--reference", str(models / PLAIN),
                "--defense", name, "--out", str(out / "attacks" / name),
            ]  # fmt: skip
            commands.append(["intaglio", *attack, "--url", "http://127.0.0.1:8000"])
            report = out / "attacks" / name / "report.json"
            if not report.is_file():
                run(*attack, "--url", server.url, "--resume", "--moved")
            rows += read_json(report).rows
    share = answered_by_victim(models / PAIR, out / "attacks" / "am" / TRANSFER)
    document = {
        "schema": 1,
        "command": commands,
        "environment": describe_environment(),
        "notes": [
            f"Out-of-distribution set of the pair: `{ood}`, the 8,000 / 2,000 split of KMNIST's "
            "test images where the name is `kmnist_t10k`. A clone is shown 300,000 images, for "
            "at least 5 and at most 100 epochs; last epoch, no augmentation. Links that keep the "
            "top-1 leave hard labels as they were: their hard row is that of `label-only`.",
            f"Behind `am`, {share:.1%} of the 50,000 queries met a victim that was sure enough and "
            "got its own answer: what its clones know comes from those.",
            "Latencies were taken while other work ran on the machine; rows are not comparable by "
            "them.",
        ],
        "rows": [row.model_dump(mode="json") for row in rows],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "mnist-from-fashion.json").write_text(json.dumps(document, indent=2) + "\n")
    write_curves(rows, IMAGES / "mnist-from-fashion.png")


if __name__ == "__main__":
    main()
