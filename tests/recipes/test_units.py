"""Units: frozen dataclasses with described options, found by path and written as JSON."""

import dataclasses
from typing import Annotated

import pytest

from enoto_jax.recipes import units
from enoto_jax.types import InputError, Unit


class leg(Unit):
    """A leg.

    More about legs.
    """

    length: Annotated[float, "from hip to foot, in metres."] = 1.0
    knees: Annotated[int, "how many."] = 1


class animal(Unit):
    """An animal."""

    legs: Annotated[tuple, "all of them."] = ()
    front: Annotated[leg | None, "the leg in front."] = None
    name_of_it: Annotated[str, "what it is called."] = "cat"


class horse(animal):
    """A horse."""

    speed: Annotated[float, "of the gallop."] = 2.0


@dataclasses.dataclass(frozen=True)
class Stable:
    """A stable."""

    first: Annotated[animal, "the animal by the door."]
    places: Annotated[int, "how many animals fit."] = 3


STABLE = Stable(horse(front=leg(length=0.5)))


def test_a_unit_is_immutable_data():
    assert leg(length=2.0) == leg(length=2.0) != leg() and len({leg(), leg(knees=1)}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        leg().knees = 2
    with pytest.raises(TypeError, match="lenght"):
        leg(lenght=1.0)
    with pytest.raises(TypeError, match="positional"):
        leg(1.0)
    assert dataclasses.replace(leg(length=2.0), knees=3) == leg(length=2.0, knees=3)


def test_names_and_text():
    assert STABLE.first.name == "horse"
    assert str(animal(name_of_it="a", front=leg(length=2.0))) == (
        "animal(front=leg(length=2.0), name_of_it='a')"
    )
    assert str(leg()) == "leg()"


def test_options_are_what_the_class_declares():
    found = units.options(horse)
    assert list(found) == ["legs", "front", "name_of_it", "speed"]
    assert found["front"].type is leg and found["front"].optional
    assert found["speed"] == (float, False, "of the gallop.", 2.0)
    assert units.options(Stable)["first"].default is dataclasses.MISSING
    assert [str(found[name]) for name in ("front", "speed")] == ["leg | None", "float"]
    assert units.summary(leg) == "A leg."


def test_nearest():
    assert units.nearest("knes", ["length", "knees"]) == "; nearest: knees"
    assert units.nearest("xyz", ["length", "knees"]) == "; known: knees, length"


# Paths.


def test_leaves_in_order_with_their_owners():
    found = list(units.leaves(STABLE))
    assert [path for path, _, _ in found] == [
        "first",
        "first.legs",
        "first.front",
        "first.front.length",
        "first.front.knees",
        "first.name_of_it",
        "first.speed",
        "places",
    ]
    owners = {path: owner for path, _, owner in found}
    assert owners["places"] is STABLE and type(owners["first.front.knees"]) is leg
    values = {path: value for path, value, _ in found}
    assert values["first.front.length"] == 0.5 and values["first.speed"] == 2.0


def test_replace_at_changes_one_value_of_a_copy():
    changed = units.replace_at(STABLE, "first.front.length", 0.7)
    assert changed == Stable(horse(front=leg(length=0.7)))
    assert Stable(horse(front=leg(length=0.5))) == STABLE
    assert units.replace_at(STABLE, "places", 9) == Stable(STABLE.first, 9)
    assert units.replace_at(STABLE, "first.front", None).first.front is None


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("frist.speed", "no hyper-parameter 'frist.speed'; nearest: first"),
        ("first.sped", "no hyper-parameter 'sped'; nearest: speed"),
        ("places.first", "no hyper-parameter 'first'; known: "),
    ],
)
def test_replace_at_names_the_nearest(path, message):
    with pytest.raises(InputError) as caught:
        units.replace_at(STABLE, path, 1)
    assert str(caught.value) == message


def test_to_json_is_plain_and_complete():
    assert units.to_json(STABLE) == {
        "first": {
            "unit": "horse",
            "legs": [],
            "front": {"unit": "leg", "length": 0.5, "knees": 1},
            "name_of_it": "cat",
            "speed": 2.0,
        },
        "places": 3,
    }
    assert units.to_json(animal(legs=(1, leg())))["legs"] == [
        1,
        {"unit": "leg", "length": 1.0, "knees": 1},
    ]
