"""What a command imports before it has something to do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_help_names_every_flag_and_imports_nothing_heavy() -> None:
    program = (
        "import sys, attack_client.cli, json\n"
        "from click.testing import CliRunner\n"
        "result = CliRunner().invoke(attack_client.cli.attack, ['knockoff', '--help'])\n"
        "heavy = {'torch', 'httpx', 'matplotlib', 'pydantic', 'numpy'} & set(sys.modules)\n"
        "print(json.dumps([result.exit_code, result.output, sorted(heavy)]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    code, text, heavy = json.loads(done.stdout)
    assert (code, heavy) == (0, [])
    promised = {"--url", "--model", "--pool", "--budget", "--labels", "--clone", "--test", "--out"}
    assert promised | {"--api-key", "--resume"} <= set(text.split())


def test_to_look_at_a_transfer_set_nobody_waits_for_torch(tmp_path: Path) -> None:
    program = (
        "import sys, attack_client.cli\n"
        "from click.testing import CliRunner\n"
        f"result = CliRunner().invoke(attack_client.cli.attack, ['show', {str(tmp_path)!r}])\n"
        "print(result.exit_code, 'torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["2", "False"]
