"""The defenses there are, and chains built from what an operator wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any

from defenses.adaptive_misinformation import AdaptiveMisinformation
from defenses.chain import Chain
from defenses.contract import Defense, Material
from defenses.deep_defense import DeepDefenseProbabilities
from defenses.deep_defense_maps import DeepDefense, DeepDefenseMaps
from defenses.errors import MissingRole, OptionError, PluginError, UnknownDefense
from defenses.grad2 import Grad2
from defenses.label_only import LabelOnly
from defenses.mad import Mad
from defenses.modelguard_s import ModelGuardS
from defenses.modelguard_w import ModelGuardW
from defenses.options import construct
from defenses.reverse_sigmoid import ReverseSigmoid
from defenses.rounding import Rounding
from defenses.stingy import Stingy
from defenses.top_k import TopK

__all__ = ["BUILT_IN", "GROUP", "build_chain", "kinds", "required_roles"]

GROUP = "intaglio.defenses"
"""Entry points of this group are further defenses, by kind."""

BUILT_IN: Mapping[str, type[Defense]] = MappingProxyType(
    {
        "am": AdaptiveMisinformation,
        "dd-i": DeepDefenseMaps,
        "dd-s": DeepDefenseProbabilities,
        "deepdefense": DeepDefense,
        "grad2": Grad2,
        "label-only": LabelOnly,
        "mad": Mad,
        "modelguard-s": ModelGuardS,
        "modelguard-w": ModelGuardW,
        "reverse-sigmoid": ReverseSigmoid,
        "rounding": Rounding,
        "stingy": Stingy,
        "top-k": TopK,
    }
)
"""Our own defenses by kind."""


TRAINED_IN = frozenset({"ast", "edm", "ini", "nasty", "outlier-exposure", "stt"})
"""Defenses that are in the weights of a bundle, whatever chain it is served behind."""


def kinds() -> Mapping[str, type[Defense]]:
    """Every defense by kind: ours and those of installed packages.

    Raises:
        PluginError: a plug-in cannot be loaded, is no defense, or takes a kind that is taken.
    """
    plugins = {kind: _load(plugin) for kind, plugin in _plugins().items()}
    return dict(sorted({**BUILT_IN, **plugins}.items()))


def required_roles(specs: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """The networks that a chain of ``specs`` needs, by role.

    Raises:
        OptionError: an entry is no mapping with a ``kind``.
        UnknownDefense: there is no defense of that kind.
    """
    needed = [_find(position, spec).needs(spec) for position, spec in enumerate(specs)]
    return frozenset(role for roles in needed for role in roles)


def build_chain(specs: Sequence[Mapping[str, Any]], material: Material) -> Chain:
    """The chain that an operator wrote, ready for the classes of ``material.card``.

    Args:
        specs: one mapping per link, in order: ``kind`` and that defense's options.
        material: networks by role, and the card of the bundle whose weights answer.

    Raises:
        UnknownDefense: there is no defense of that kind.
        PluginError: an installed package's defense cannot be used.
        OptionError: an option is unknown, missing, of a wrong type or out of range.
        MissingRole: a network that a defense needs is not there.
        OrderError: the order would disarm a link.

        Every message begins with the place: ``defenses[1].k: ...``.
    """
    links = [_build(position, spec, material) for position, spec in enumerate(specs)]
    chain = Chain(links)
    chain.check(material.card.classes)
    return chain


def _build(position: int, spec: Mapping[str, Any], material: Material) -> Defense:
    place = f"defenses[{position}]"
    defense = _find(position, spec)
    options = {key: value for key, value in spec.items() if key != "kind"}
    try:
        return construct(defense, options, material)
    except OptionError as error:
        raise OptionError(f"{place}.{error.option}", error.problem) from None
    except MissingRole as error:
        raise MissingRole(f"{place}: {error}") from None


def _find(position: int, spec: Mapping[str, Any]) -> type[Defense]:
    place = f"defenses[{position}]"
    if not isinstance(spec, Mapping):
        raise OptionError(place, f"must be a mapping with a kind and options, not {spec!r}")
    kind = spec.get("kind")
    if not isinstance(kind, str):
        raise OptionError(f"{place}.kind", "every defense needs a kind")
    plugins = _plugins()
    if kind in BUILT_IN:
        return BUILT_IN[kind]
    if kind in plugins:
        return _load(plugins[kind])
    if kind in TRAINED_IN:
        raise UnknownDefense(
            f"{place}.kind: {kind} is not a link of a chain but a way to train weights: serve a "
            "bundle that was trained so, and leave this entry out"
        )
    offered = ", ".join(sorted({*BUILT_IN, *plugins}))
    raise UnknownDefense(f"{place}.kind: there is no defense {kind!r}: there are {offered}")


def _plugins() -> dict[str, EntryPoint]:
    """Entry points by kind, none imported yet: a broken plug-in hurts only who uses it."""
    found: dict[str, EntryPoint] = {}
    for plugin in entry_points(group=GROUP):
        if plugin.name in BUILT_IN:
            raise PluginError(
                f"the plug-in {plugin.value} calls itself {plugin.name!r}, which is a built-in "
                "defense: uninstall or rename it"
            )
        if plugin.name in found and found[plugin.name].value != plugin.value:
            raise PluginError(
                f"the plug-ins {found[plugin.name].value} and {plugin.value} both call "
                f"themselves {plugin.name!r}: uninstall or rename one"
            )
        found[plugin.name] = plugin
    return found


def _load(plugin: EntryPoint) -> type[Defense]:
    try:
        loaded = plugin.load()
    except Exception as error:
        raise PluginError(f"the plug-in {plugin.value} cannot be imported: {error}") from error
    if not (isinstance(loaded, type) and issubclass(loaded, Defense)):
        raise PluginError(f"the plug-in {plugin.value} is not a subclass of Defense")
    if getattr(loaded, "kind", None) != plugin.name:
        raise PluginError(
            f"the plug-in {plugin.value} is installed as {plugin.name!r} "
            f"but its kind is {getattr(loaded, 'kind', None)!r}"
        )
    return loaded
