"""Print what pyproject.toml requires for some of its extras, one requirement a line.

python docker/requirements.py pyproject.toml server redis

An image installs these before it has any code, so that a change of code installs nothing anew.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

__all__ = ["requirements"]

OURS = re.compile(r"intaglio\[(?P<extras>[a-z, ]+)\]")


def requirements(pyproject: str, extras: list[str]) -> list[str]:
    """What the text of a pyproject.toml requires for the package and ``extras``, sorted.

    Raises:
        KeyError: there is no such extra.
    """
    project = tomllib.loads(pyproject)["project"]
    wanted, pending = set(project["dependencies"]), list(extras)
    while pending:
        for requirement in project["optional-dependencies"][pending.pop()]:
            inner = OURS.fullmatch(requirement)
            if inner is None:
                wanted.add(requirement)
            else:
                pending += [name.strip() for name in inner["extras"].split(",")]
    return sorted(wanted)


if __name__ == "__main__":
    path, *names = sys.argv[1:]
    sys.stdout.writelines(f"{line}\n" for line in requirements(Path(path).read_text(), names))
