from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest

from precomp_sdk import ConfigError
from precomp_sdk.config import check_options

if TYPE_CHECKING:
    from decimal import Decimal


class Plain:
    def __init__(
        self,
        *,
        needed: int,
        size: tuple[int, int] = (1, 1),
        names: Sequence[str] = (),
        sigma: float = 1.0,
        mode: str | float = "a",
        thing: "Weird | None" = None,
        untyped: Any = None,
    ) -> None: ...


class Weird:
    pass


class Hidden:
    def __init__(self, *, value: "Decimal | None" = None) -> None: ...


def test_values_get_the_types_of_the_signature() -> None:
    checked = check_options(
        Plain, {"needed": 3, "size": [4, 5], "names": ["x"], "sigma": 2, "untyped": [1]}, "f, codec"
    )

    assert checked == {"needed": 3, "size": (4, 5), "names": ["x"], "sigma": 2.0, "untyped": [1]}


@pytest.mark.parametrize(
    ("options", "key", "words"),
    [
        ({"needed": "3"}, "needed", "a whole number; got '3'"),
        ({"needed": True}, "needed", "a whole number; got True"),
        ({"needed": 3, "size": [4]}, "size", "Field required"),
        ({"needed": 3, "names": "x"}, "names", "got 'x'"),
        ({"needed": 3, "mode": [1]}, "mode", "a string or a number; got [1]"),
        ({"needed": 3, "thing": 3}, "thing", "got 3"),
        ({"needed": 3, "sigmo": 3}, "sigmo", "a known option; got 'sigmo'. Did you mean 'sigma'?"),
        ({}, "needed", "a value; got none"),
    ],
)
def test_a_wrong_option_is_told_with_its_key(options: dict[str, Any], key: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_options(Plain, options, "mine.toml, codec")

    assert caught.value.where == f"mine.toml, codec.{key}"
    assert words in str(caught.value)


def test_types_known_to_type_checkers_only_are_not_checked() -> None:
    assert check_options(Hidden, {"value": [1]}, "f, codec") == {"value": [1]}
