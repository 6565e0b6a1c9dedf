"""Units: constructors with their arguments written down."""

import dataclasses

import pytest

from enoto_jax.recipes import units
from enoto_jax.types import InputError, Unit


def leg(*, length: float = 1.0, knees: int = 1):
    """A leg.

    More about legs.

    Args:
      length: from hip to foot,
        in metres.
      knees: how many.

    Returns:
      A tuple.
    """
    return ("leg", length, knees)


def animal(spec, *, legs: tuple = (), front: object = None, name: str = "cat"):
    """An animal.

    Args:
      spec: comes first.
      legs: all of them.
      front: the leg in front.
      name: what it is called.
    """
    return (spec, legs, front, name)


def horse(spec, *, speed: float = 2.0, **options):
    """A horse.

    Args:
      speed: of the gallop.
      **options: see animal.
    """
    return (speed, *animal(spec, **options))


horse.extends = animal


@dataclasses.dataclass(frozen=True)
class Stable:
    """A stable.

    Args:
      first: the animal by the door.
      places: how many animals fit.
    """

    first: Unit
    places: int = 3


STABLE = Stable(horse(front=leg(length=0.5)))


# Build.


def test_building_is_calling_with_units_built_first():
    made = animal(legs=(leg(), leg(knees=2)), front=leg(length=3.0))
    expected = animal("spec", legs=(leg(), leg(knees=2)), front=leg(length=3.0))
    assert made.build("spec") == expected
    assert leg(length=2.0).build() == ("leg", 2.0, 1)
    assert STABLE.first.build("s") == (2.0, "s", (), ("leg", 0.5, 1), "cat")


def test_an_unknown_argument_is_refused_when_written():
    with pytest.raises(InputError, match=r"^leg has no argument 'lenght'; nearest: length$"):
        leg(lenght=1.0)
    with pytest.raises(InputError, match=r"^leg has no argument 'zzz'; known: knees, length$"):
        leg(zzz=1.0)
    with pytest.raises(InputError, match=r"^animal has no argument 'spec'"):
        animal(spec=1)


def test_a_unit_is_not_changed_by_replace():
    one = leg(length=2.0)
    assert one.replace(knees=3) == leg(length=2.0, knees=3)
    assert one == leg(length=2.0) != leg()
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.make = animal


def test_names_defaults_and_text():
    assert STABLE.first.name == "horse"
    assert leg(knees=2).resolved() == {"length": 1.0, "knees": 2}
    assert list(units.parameters(horse)) == ["legs", "front", "name", "speed"]
    assert horse(name="Bo").resolved() == {
        "legs": (),
        "front": None,
        "name": "Bo",
        "speed": 2.0,
    }
    assert str(animal(name="a", front=leg(length=2.0))) == (
        "animal(name='a', front=leg(length=2.0))"
    )
    assert str(leg()) == "leg()"


# Explain.


def test_describe_reads_the_docstring():
    assert units.describe(leg, "length") == "from hip to foot, in metres."
    assert units.describe(leg, "knees") == "how many."
    assert units.describe(horse, "speed") == "of the gallop."
    assert units.describe(horse, "front") == "the leg in front."
    assert units.describe(Stable, "places") == "how many animals fit."
    assert units.describe(leg, "toes") == units.describe(leg, "length:") == ""
    assert units.source_line(leg) == "A leg."


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
        "first.name",
        "first.speed",
        "places",
    ]
    owners = {path: owner for path, _, owner in found}
    assert owners["places"] is STABLE and owners["first.front.knees"].make is leg
    values = {path: value for path, value, _ in found}
    assert values["first.front.length"] == 0.5 and values["first.speed"] == 2.0


def test_replace_at_changes_one_value_of_a_copy():
    changed = units.replace_at(STABLE, "first.front.length", 0.7)
    assert changed == Stable(horse(front=leg(length=0.7)))
    assert Stable(horse(front=leg(length=0.5))) == STABLE
    assert units.replace_at(STABLE, "places", 9) == Stable(STABLE.first, 9)
    defaulted = units.replace_at(STABLE, "first.name", "Bo")
    assert defaulted.first.arguments["name"] == "Bo"
    assert units.replace_at(STABLE, "first.front", None).first.build("s")[3] is None


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
            "name": "cat",
            "speed": 2.0,
        },
        "places": 3,
    }
    assert units.to_json(animal(legs=(1, leg()))) == {
        "unit": "animal",
        "legs": [1, {"unit": "leg", "length": 1.0, "knees": 1}],
        "front": None,
        "name": "cat",
    }
