"""What ``import attack_client`` offers, and what it costs."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys

import pytest

import attack_client


def test_the_library_is_what_it_lists() -> None:
    assert attack_client.__all__ == sorted(attack_client.__all__)
    assert {name for names in attack_client.HOMES.values() for name in names} == set(
        attack_client.__all__
    )
    for home, names in attack_client.HOMES.items():
        for name in names:
            found = getattr(attack_client, name)
            assert inspect.isclass(found) or inspect.isfunction(found)
            assert found.__name__ == name
            assert found.__module__.startswith(f"attack_client.{home}")
    assert set(attack_client.__all__) <= set(dir(attack_client))
    with pytest.raises(AttributeError, match="no attribute 'theif'"):
        _ = attack_client.theif


@pytest.mark.parametrize("module", ["attack_client", "attack_client.cli"])
def test_importing_it_is_cheap(module: str) -> None:
    program = (
        f"import json, sys, {module}\n"
        "print(json.dumps(sorted({'torch', 'httpx', 'numpy', 'pydantic'} & set(sys.modules))))\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
