"""The client for asyncio and its twin for threads have the same surface; all of it is typed and says what it does."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import event_agent_client as ea
from event_agent_client import aio, sync

PAIRS = [
    (getattr(aio, name), getattr(sync, name))
    for name in ("Client", "Call", "Node", "All", "Events", "Cdrs", "Live", "Record")
]
# The twin is connected when it is made, and what has begun when it is there.
ONLY_AIO = {"Client": {"connect"}, "Events": {"aclose"}, "Cdrs": {"aclose"}, "Live": {"aclose", "begin"}}
ONLY_SYNC = {"Events": {"close"}, "Cdrs": {"close"}, "Live": {"close", "unreachable"}}  # an attribute there


def public(kind: type) -> dict[str, Any]:
    return {name: each for name, each in vars(kind).items() if not name.startswith("_")}


@pytest.mark.parametrize(("one", "other"), PAIRS, ids=lambda kind: kind.__module__.rpartition(".")[2] + kind.__name__)
def test_both_have_the_same(one: type, other: type) -> None:
    ours, theirs = public(one), public(other)
    assert set(ours) - ONLY_AIO.get(one.__name__, set()) == set(theirs) - ONLY_SYNC.get(one.__name__, set())
    for name in set(ours) & set(theirs):
        if not callable(ours[name]):
            continue
        assert list(inspect.signature(ours[name]).parameters.values()) == list(
            inspect.signature(theirs[name]).parameters.values()
        ), f"{one.__name__}.{name}"
        assert ours[name].__doc__ == theirs[name].__doc__, f"{one.__name__}.{name}"


def test_connect_is_the_same() -> None:
    here, there = (dict(inspect.signature(each.connect).parameters) for each in (aio, sync))
    there.pop("handlers")
    assert here == there


def test_all_that_is_public_says_what_it_does() -> None:
    for name in ea.__all__:
        thing = getattr(ea, name)
        assert inspect.getdoc(thing), name
        for attribute, each in public(thing).items() if inspect.isclass(thing) else ():
            if inspect.isfunction(each):
                assert each.__doc__, f"{name}.{attribute}"


def test_all_errors_are_agent_errors() -> None:
    found = [getattr(ea, name) for name in ea.__all__]
    errors = [each for each in found if inspect.isclass(each) and issubclass(each, Exception)]
    assert len(errors) >= 14 and all(issubclass(each, ea.AgentError) for each in errors)


def test_what_stands_in_the_package_is_there_when_it_is_asked_for() -> None:
    assert set(ea.__all__) <= set(dir(ea))
    space: dict[str, object] = {}
    exec("from event_agent_client import *", space)
    assert set(ea.__all__) <= set(space) and space["sync"] is sync and space["Call"] is aio.Call
    for name in ("nothing", "aioo", "NAMES"):
        with pytest.raises(AttributeError, match=name):
            getattr(ea, name)
    assert not [name for name in ea.__all__ if getattr(ea, name) is None]


def test_all_that_is_public_has_types() -> None:
    kinds = [thing for name in ea.__all__ if inspect.isclass(thing := getattr(ea, name))]
    kinds += [getattr(sync, name) for name in sync.__all__ if inspect.isclass(getattr(sync, name))]
    functions: list[tuple[str, Any]] = [("connect", ea.connect), ("sync.connect", sync.connect)]
    for kind in kinds:
        for name, each in public(kind).items():
            each = each.fget if isinstance(each, property) else each
            if inspect.isfunction(each):
                functions.append((f"{kind.__module__}.{kind.__name__}.{name}", each))
    assert len(functions) > 150
    for name, function in functions:
        signature = inspect.signature(function)
        assert signature.return_annotation is not inspect.Signature.empty, name
        assert signature.return_annotation != "Any" or name.endswith(".Reply.data"), name  # whatever JSON can hold
        for parameter in signature.parameters.values():
            if parameter.name in ("self", "_"):
                continue
            assert parameter.annotation is not inspect.Parameter.empty, f"{name}: {parameter.name}"
            # `**more` are fields of a request, of which the agent knows more than we do.
            assert parameter.annotation != "Any" or parameter.name == "more", f"{name}: {parameter.name}"
