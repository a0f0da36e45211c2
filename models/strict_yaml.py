"""YAML as its author meant it: plain data, and no key given twice.

PyYAML keeps the last of two equal keys and says nothing, which turns a slip of the editor into a
setting that nobody chose.
"""

from __future__ import annotations

from typing import IO, Any

import yaml

__all__ = ["StrictLoader", "load_yaml"]


class StrictLoader(yaml.SafeLoader):
    """A ``SafeLoader`` that refuses a mapping with a key twice (YAML 1.2.2, section 3.2.1.1).

    A key that overrides one merged in by ``<<`` is no duplicate.
    """

    # On nodes and not on values: constructing a merge rewrites the node it merges from.
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Compose a mapping.

        Raises:
            yaml.MarkedYAMLError: a key is there twice; names it, and the line of the second.
        """
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (key.tag, key.value) in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is given twice", key.start_mark
                )
            seen.add((key.tag, key.value))
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """Construct what a node stands for.

        Raises:
            yaml.MarkedYAMLError: its text is none of its kind, as ``!!int x``, or the month 13.
        """
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError):
            kind = str(node.tag).rpartition(":")[2]
            raise yaml.constructor.ConstructorError(
                None, None, f"a value cannot be read as {kind}", node.start_mark
            ) from None


def load_yaml(text: str | bytes | IO[str] | IO[bytes]) -> Any:
    """Read one YAML document as plain data.

    Raises:
        yaml.YAMLError: not YAML, not plain data, or a key is given twice; where it knows the line
            it is a ``yaml.MarkedYAMLError`` whose ``problem`` is half a sentence.
    """
    try:
        return yaml.load(text, Loader=StrictLoader)  # noqa: S506 - it is a SafeLoader
    except RecursionError:
        raise yaml.MarkedYAMLError(problem="it is nested too deeply") from None
    except ValueError:  # of the scanner, which takes any number for that of a character
        raise yaml.MarkedYAMLError(problem="it holds a character that there is not") from None
