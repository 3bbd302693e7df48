"""`help()` of every public name is worth reading: each says something of its own, in a sentence."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from functools import cache, cached_property

import pytest

import coordclient
from coordclient import Client, CoordError

CLASSES = {
    name: value for name in coordclient.__all__ if inspect.isclass(value := getattr(coordclient, name))
}
SENTENCE = re.compile(r"[A-Z0-9`].*[.:]$")
LETTERS_MIN = 12  # less than "The node has children." says nothing

Member = tuple[str, object, type]


def members(kind: type) -> Iterator[Member]:
    """What a class of ours offers, its ancestors included: name, object, and where from."""
    seen: set[str] = set()
    for ancestor in kind.__mro__:
        if ancestor.__module__.startswith("coordclient"):
            for name, value in vars(ancestor).items():
                if not name.startswith("_") and name not in seen:
                    seen.add(name)
                    yield name, value, ancestor


def is_documented_by_itself(value: object) -> bool:
    """Whether it is a method or a property; the attributes of a class are documented with the class."""
    inner = value.__func__ if isinstance(value, staticmethod | classmethod) else value
    return inspect.isfunction(inner) or isinstance(inner, property | cached_property)


def first_paragraph(docstring: str | None) -> str:
    return " ".join(inspect.cleandoc(docstring or "").split("\n\n")[0].split())


def says_nothing(docstring: str | None) -> bool:
    """Whether a docstring is missing, generated, or no sentence."""
    text = first_paragraph(docstring)
    return not SENTENCE.match(text) or len(re.findall(r"\w", text)) < LETTERS_MIN


@cache
def documented_members() -> dict[str, tuple[str, str | None]]:
    """Every method and property of the public classes, with its name and its own docstring."""
    return {
        f"{where.__module__}.{where.__qualname__}.{name}": (name, value.__doc__)
        for kind in CLASSES.values()
        for name, value, where in members(kind)
        if is_documented_by_itself(value)
    }


def test_every_public_name_is_there_once() -> None:
    assert len(set(coordclient.__all__)) == len(coordclient.__all__)
    assert len(CLASSES) == len(coordclient.__all__) > 100
    assert len(documented_members()) > 350


def test_every_public_name_has_a_docstring_of_its_own() -> None:
    """Not that of an ancestor, which `help()` would show, nor the one that `dataclass` makes up."""
    silent = [
        name
        for name, kind in CLASSES.items()
        if says_nothing(own := vars(kind).get("__doc__")) or str(own).startswith(f"{kind.__name__}(")
    ]

    assert silent == []


def test_no_two_errors_say_the_same() -> None:
    errors = [kind for kind in CLASSES.values() if issubclass(kind, CoordError)]
    texts = [first_paragraph(kind.__doc__) for kind in errors]

    assert len(errors) > 30
    assert len(set(texts)) == len(texts)


def test_every_method_and_property_is_documented() -> None:
    silent = [where for where, (_, docstring) in documented_members().items() if says_nothing(docstring)]

    assert silent == []


def test_no_docstring_only_repeats_the_name() -> None:
    idle = [
        where
        for where, (name, docstring) in documented_members().items()
        if len(set(re.findall(r"[a-z]+", first_paragraph(docstring).lower())) - set(name.split("_"))) < 3
    ]

    assert idle == []


RECIPES = sorted(
    name
    for name, kind in CLASSES.items()
    if f"Async{name}" in CLASSES and "client" in inspect.signature(kind).parameters
)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_what_happens_without_a_connection(name: str) -> None:
    assert len(RECIPES) >= 15
    for kind in (CLASSES[name], CLASSES[f"Async{name}"]):
        text = inspect.getdoc(kind) or ""
        assert "SUSPENDED" in text, kind
        assert "LOST" in text, kind


@pytest.mark.parametrize("name", ["get", "set", "delete", "create"])
@pytest.mark.parametrize("kind", [Client, coordclient.AsyncClient])
def test_the_basic_operations_name_their_errors(kind: type, name: str) -> None:
    text = inspect.getdoc(getattr(kind, name)) or ""

    named = re.findall(r"(\w+Error)", text)
    assert len(named) >= 2
    assert set(named) <= set(coordclient.__all__)


def test_every_error_that_a_docstring_names_is_public() -> None:
    builtin = {"TimeoutError", "ValueError", "RuntimeError", "TypeError", "CancelledError", "OSError"}
    texts = [kind.__doc__ or "" for kind in CLASSES.values()]
    texts += [docstring or "" for _, docstring in documented_members().values()]
    named = {error for text in texts for error in re.findall(r"\b[A-Z]\w+Error\b", text)}

    assert named - builtin - set(coordclient.__all__) == set()


TUPLES = {
    name: kind for name, kind in CLASSES.items() if issubclass(kind, tuple) and hasattr(kind, "_fields")
}


@pytest.mark.parametrize("name", TUPLES)
def test_a_named_tuple_says_what_its_fields_are(name: str) -> None:
    """By itself Python says of each that it is an alias for a field's number."""
    kind = TUPLES[name]
    signature = str(inspect.signature(kind))

    assert "ForwardRef" not in signature
    for field in inspect.signature(kind).parameters:
        assert re.search(rf"^ +{field}: .", kind.__doc__ or "", re.MULTILINE), field
