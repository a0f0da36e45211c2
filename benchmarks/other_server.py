"""Thefts from a server that is not ours: MLServer, which knows the V2 protocol and nothing else.

    python -m benchmarks.other_server [--mlserver PATH] [--data-root DIR]

A small network of MNIST answers from MLServer, in a runtime that is written here and has numpy and
no line of ours in it, and ``intaglio attack`` steals it as it would steal one of ours: with images
of Fashion-MNIST (``knockoff``), blends of them (``composite``), images made from a few of MNIST
(``jbda-tr``), and training images with their labels (``distil``). MLServer wants other versions of
what we need: it gets a virtual environment of its own under ``runs/other-server``, unless
``--mlserver`` says where it is. An attack that has its report is not run again.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import httpx
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from attack_client.report import Row, describe_environment, read_json
from benchmarks.envelope import RESULTS
from models.datasets import Dataset, load
from models.training.data import to_unit

VERSION = "1.7.1"
MODEL = "digits"
HIDDEN = 128
EPOCHS = 5

ATTACKS = {
    "knockoff": "--pool fashion_mnist --budget 1000,10000 --labels soft",
    "composite": "--pool fashion_mnist --budget 10000 --labels hard",
    "jbda-tr": "--pool mnist --budget 4800 --labels soft --set step=strong",
    "distil": "--pool mnist --budget 1000 --labels soft",
}
"""Every attack but ``jbda``, which asks as ``jbda-tr`` does, and those that ask for maps."""

RUNTIME = """\
import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Digits(MLModel):
    async def load(self) -> bool:
        self.weights = np.load(self.settings.parameters.uri)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        images = NumpyCodec.decode_input(payload.inputs[0]).reshape(-1, 784) / 255.0
        hidden = np.maximum(images @ self.weights["w1"].T + self.weights["b1"], 0.0)
        logits = hidden @ self.weights["w2"].T + self.weights["b2"]
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        said = (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)
        return InferenceResponse(
            model_name=self.name, outputs=[NumpyCodec.encode_output("probabilities", said)]
        )
"""


def installed(out: Path) -> Path:
    """MLServer in an environment of its own."""
    place = out / "venv"
    program = place / "bin" / "mlserver"
    if not program.is_file():
        venv.create(place, with_pip=True)
        pip = [str(place / "bin" / "pip"), "install", "--quiet", f"mlserver=={VERSION}"]
        subprocess.run(pip, check=True)
    return program


def prepare(folder: Path, task: Dataset) -> float:
    """Train the victim and write all that MLServer needs of it; its accuracy on the test set."""
    torch.manual_seed(0)
    first, second = nn.Linear(784, HIDDEN), nn.Linear(HIDDEN, 10)
    network = nn.Sequential(nn.Flatten(), first, nn.ReLU(), second)
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    labels = torch.from_numpy(task.train_labels)
    for _ in range(EPOCHS):
        for part in torch.split(torch.randperm(len(labels)), 128):
            shown = to_unit(torch.from_numpy(task.train_images[part.numpy()]))
            optimiser.zero_grad()
            torch.autograd.backward(functional.cross_entropy(network(shown), labels[part]))
            optimiser.step()
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(
        folder / "weights.npz",
        w1=first.weight.detach().numpy(),
        b1=first.bias.detach().numpy(),
        w2=second.weight.detach().numpy(),
        b2=second.bias.detach().numpy(),
    )
    (folder / "runtime.py").write_text(RUNTIME, encoding="utf-8")
    tensors = {
        "inputs": [{"name": "images", "datatype": "UINT8", "shape": [-1, 1, 28, 28]}],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]}],
    }
    parameters = {"uri": str((folder / "weights.npz").absolute())}
    settings = {"name": MODEL, "implementation": "runtime.Digits", "parameters": parameters}
    (folder / "model-settings.json").write_text(json.dumps(settings | tensors), encoding="utf-8")
    with torch.no_grad():
        said = network(to_unit(torch.from_numpy(task.test_images))).argmax(dim=1)
    return float((said == torch.from_numpy(task.test_labels)).float().mean())


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextmanager
def answering(program: Path, folder: Path) -> Iterator[str]:
    """MLServer, ready; its URL."""
    port, grpc, metrics = free_port(), free_port(), free_port()
    settings = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": grpc,
        "metrics_port": metrics,
        "parallel_workers": 0,
    }
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    url = f"http://127.0.0.1:{port}"
    with (folder.parent / "mlserver.log").open("w") as log:
        process = subprocess.Popen(
            [str(program.absolute()), "start", "."], cwd=folder, stdout=log, stderr=log
        )
        try:
            for _ in range(600):
                if process.poll() is not None:
                    raise click.ClickException(f"MLServer ended: see {log.name}")
                try:
                    if httpx.get(f"{url}/v2/models/{MODEL}/ready").is_success:
                        break
                except httpx.TransportError:
                    pass  # it does not listen yet
                time.sleep(0.1)
            else:
                raise click.ClickException(f"MLServer is not ready after a minute: see {log.name}")
            yield url
        finally:
            process.terminate()
            process.wait(30)


@click.command()
@click.option("--data-root", type=click.Path(path_type=Path), envvar="INTAGLIO_DATA_ROOT")
@click.option("--mlserver", type=click.Path(path_type=Path, exists=True), help="The program.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/other-server"))
def main(data_root: Path | None, mlserver: Path | None, out: Path) -> None:
    """Serve, steal, report."""
    program = mlserver or installed(out)
    accuracy = prepare(out / MODEL, load("mnist", root=data_root))
    place = [] if data_root is None else ["--data-root", str(data_root)]
    commands: list[list[str]] = []
    rows: list[Row] = []
    with answering(program, out / MODEL) as url:
        for kind, given in ATTACKS.items():
            attack = [
                "attack", kind, "--model", MODEL, *given.split(), "--test", "mnist",
                "--clone", "lenet", "--latency-requests", "50", "--out", str(out / kind),
            ]  # fmt: skip
            report = out / kind / "report.json"
            if not report.is_file():
                command = [str(Path(sys.executable).with_name("intaglio")), *attack, *place]
                subprocess.run([*command, "--url", url, "--resume", "--moved"], check=True)
            commands.append(["intaglio", *attack, "--url", "http://127.0.0.1:8080"])
            rows += read_json(report).rows
    document = {
        "schema": 1,
        "command": [["python", "-m", "benchmarks.other_server"], *commands],
        "environment": describe_environment(),
        "notes": [
            f"MLServer {VERSION} answers for a network of {HIDDEN} hidden units, trained for "
            f"{EPOCHS} epochs of MNIST, {accuracy:.2%} on its test set. It speaks V2 in JSON, has "
            "no idempotency keys and tells nobody what is left of a budget. Clones are LeNets, "
            "trained as by default. There is no reference: what the victim is, the client knows "
            "from its answers only. Latencies were taken while other work ran on the machine.",
        ],
        "rows": [row.model_dump(mode="json") for row in rows],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "other-server.json").write_text(
        json.dumps(document, indent=2) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
