"""Write ``docs/results.md``, and tables of other pages, from all of ``benchmarks/results/``.

    python -m benchmarks.results_page [--demo DIR] [--longer DIR] [--splits DIR]

The page holds no figure of its own: every number comes from a committed result, which names the
command that measured it and the machine it ran on. ``--demo``, ``--longer`` and ``--splits`` first
take over the report and the picture of a finished demo.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

import click
from rich.console import Console

from attack_client.report import read_json, summarise
from attack_client.report.summary import COLUMNS
from benchmarks.envelope import IMAGES, RESULTS
from benchmarks.gpu.page import TITLE as GPU_TITLE
from benchmarks.gpu.page import gpu_section
from benchmarks.leakage_page import findings, leakage_parts
from benchmarks.markdown import folded, table
from benchmarks.result_tables import measured

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "results.md"
README = ROOT / "README.md"
DEFENSES = ROOT / "docs" / "defenses.md"

GROUPS: dict[str, dict[str, str]] = {
    "Demos": {
        "demo": "The demo: digits stolen with letters",
        "demo-all": "The longer demo: every defense, and some chains",
        "demo-splits": "The demo on five splits of the digits",
    },
    "Defenses against attacks": {
        "leakage-mnist": "A leakage matrix: MNIST stolen with Fashion-MNIST",
        "leakage-digits": "A leakage matrix: digits stolen with letters",
        "adaptive-attacks": "Add-ons that undo defenses, each against those it is meant for",
        "accounts": "Several accounts against a monitor and query budgets",
        "defense-sweeps": "Defenses over their settings",
        "deep-defense": "DeepDefense: what a query costs, and what it leaves a thief",
        "map-theft": "Theft with maps: what explanations give away behind each defense",
        "map-theft-budgets": "Theft with maps by budget",
    },
    "Attacks": {
        "attack-curves": "Every attack against a victim without a defense",
        "composite-pools": "Composite images from a small pool, at equal budget",
        "composite-pools-cifar10": "The same of CIFAR-10, on a GPU",
        "mnist-from-fashion": "MNIST, LeNet, stolen with Fashion-MNIST",
        "clone-optimiser": "Which optimiser clones are trained with",
        "client-throughput": "The attack client against wrk",
        "other-server": "Thefts from a server that is not ours: MLServer",
    },
    "Defended weights": {
        "defended-training": "Defended weights against KnockoffNets, at a CPU's scale",
        "defended-teachers": "Teachers against students who own their training data",
        "ini-tradeoff": "InI: what it leaves a thief against what it costs, and its controls",
        "ini-forms": "InI: which of its forms matter",
        "few-labels": "Teachers against students who have few labels",
        "teacher-forms": "Nasty, STT and AST: which of their forms matter",
        "training": "Training: what a step of each objective costs",
        "training-cuda": "Training on a GPU: what a step of each objective costs",
    },
    "Serving": {
        "serving": "Serving: what batching buys",
        "serving-cuda": "Serving on a GPU",
        "overload": "Overload: ten times the queue in flight",
        "defenses": "Defenses: what each costs the server",
        "defenses-cuda": "Defenses on a GPU",
    },
}
"""The page's order: results by what they are about."""

HEADINGS = {name: title for group in GROUPS.values() for name, title in group.items()}


def _shown(results: Path) -> list[Path]:
    """Results with a section of their own: drills have a page, stages on a GPU one section."""
    apart = ("reliability-", "reload-soak", "answer-cache", "gpu-")
    return [path for path in results.glob("*.json") if not path.name.startswith(apart)]


def section(path: Path) -> str:
    """One result as a section: how it was measured, where, and the table."""
    document = json.loads(path.read_text(encoding="utf-8"))
    commands = document["command"]
    shown = commands if isinstance(commands[0], list) else [commands]
    machine = ", ".join(
        f"{key} {value}" for key, value in document["environment"].items() if value is not None
    )
    rows = document["rows"]
    parts = [
        f"## {HEADINGS.get(path.stem, path.stem)}",
        "```bash\n" + "\n".join(" ".join(command) for command in shown) + "\n```",
        *([listed(document["notes"])] if document.get("notes") else []),
        f"Measured on: {machine}.",
        *(
            folded(extra["title"], table(extra["header"], extra["rows"]), len(extra["rows"]))
            for extra in document.get("tables", [])
        ),
        *(leakage_parts(document) if "leakage" in document else ()),
        *measured(rows, path),
    ]
    picture = IMAGES / f"{path.stem}.png"
    if picture.exists():
        parts.append(f"![{HEADINGS.get(path.stem, path.stem)}](images/{picture.name})")
    return "\n\n".join(parts)


def listed(notes: Sequence[str]) -> str:
    """Sentences as people read them: one as it is, several as a list."""
    return notes[0] if len(notes) == 1 else "\n".join(f"- {note}" for note in notes)


def contents(shown: Collection[str], stages: bool) -> str:
    """A link to the section of every result in ``shown``, by what they are about."""

    def link(title: str) -> str:
        return f"[{title}](#{anchor(title)})"

    lines = []
    for group, titles in GROUPS.items():
        links = [link(titles[name]) for name in titles if name in shown]
        lines += [f"- {group}", *(f"  - {each}" for each in links)] if links else []
    lines += [f"- {link(name)}" for name in shown if name not in HEADINGS]
    return "\n".join([*lines, *([f"- {link(GPU_TITLE)}"] if stages else [])])


def anchor(title: str) -> str:
    """What a heading is called in addresses."""
    return re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")


def take_over(demo: Path, name: str) -> None:
    """Copy the report and the picture of a finished demo."""
    shutil.copyfile(demo / "report.json", RESULTS / f"{name}.json")
    shutil.copyfile(demo / "curves.png", IMAGES / f"{name}.png")


def update_readme() -> None:
    """Put the demo's table between the README's markers, if there is a result of it."""
    if (RESULTS / "demo.json").is_file():
        rows = read_json(RESULTS / "demo.json").rows
        put(README, "demo", table(COLUMNS, [line.cells() for line in summarise(rows)]))


def update_defenses() -> None:
    """Put what the large matrix found where people choose a defense, if there is a result of it."""
    path = RESULTS / "leakage-mnist.json"
    if path.is_file():
        put(DEFENSES, "matrix", findings(json.loads(path.read_text(encoding="utf-8"))))


def put(page: Path, name: str, content: str) -> None:
    """Replace what stands between the markers ``name`` of ``page``."""
    between = re.compile(rf"(<!-- {name}:begin -->\n).*?(<!-- {name}:end -->)", re.DOTALL)
    text = page.read_text(encoding="utf-8")
    page.write_text(
        between.sub(lambda found: f"{found.group(1)}{content}\n{found.group(2)}", text),
        encoding="utf-8",
    )


@click.command()
@click.option("--demo", type=click.Path(path_type=Path, exists=True))
@click.option("--longer", type=click.Path(path_type=Path, exists=True))
@click.option("--splits", type=click.Path(path_type=Path, exists=True))
def main(demo: Path | None, longer: Path | None, splits: Path | None) -> None:
    """Write the page."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    if demo is not None:
        take_over(demo, "demo")
    if longer is not None:
        take_over(longer, "demo-all")
    if splits is not None:
        take_over(splits, "demo-splits")
    update_readme()
    update_defenses()
    order = {name: index for index, name in enumerate(HEADINGS)}
    paths = sorted(_shown(RESULTS), key=lambda path: (order.get(path.stem, 99), path.stem))
    stages = sorted(RESULTS.glob("gpu-*.json"))
    text = "\n\n".join(
        [
            "# Results",
            "Written by `python -m benchmarks.results_page` from `benchmarks/results/`; not edited "
            "by hand. *victim* is the plain model's accuracy on the test set, *benign* what an "
            "honest caller is served, *L1* the mean distance between the two answers (0 to 2), "
            "*clone* the stolen model's accuracy, *relative* clone over victim, *fidelity* the "
            "clone's agreement with the plain model and *fidelity served* with what was served. "
            "Speeds are comparable within one table only.",
            contents([path.stem for path in paths], bool(stages)),
            *(section(path) for path in paths),
            *([gpu_section(stages)] if stages else []),
        ]
    )
    PAGE.write_text(text + "\n", encoding="utf-8")
    Console().print(f"wrote {PAGE}", highlight=False)


if __name__ == "__main__":
    main()
