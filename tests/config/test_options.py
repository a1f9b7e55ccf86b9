from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from precomp_sdk import ConfigError, OptionError
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


@dataclass(frozen=True)
class Inner:
    """A table within a table."""

    __pydantic_config__: ClassVar = {"extra": "forbid", "strict": True}

    side: int | None = None
    share: float = 1.0

    def __post_init__(self) -> None:
        if self.share > 1:
            raise OptionError.number("inner", "share", "a number up to 1", self.share)


class Outer:
    def __init__(self, *, inner: Inner = Inner()) -> None: ...


def test_a_settings_record_is_a_table() -> None:
    assert check_options(Outer, {"inner": {"side": 3}}, "f, data")["inner"] == Inner(side=3)


@pytest.mark.parametrize(
    ("table", "where", "words"),
    [
        ({"side": "3"}, "f, data.inner.side", "a whole number; got '3'"),
        ({"sied": 3}, "f, data.inner.sied", "a known option; got 'sied'. Did you mean 'side'?"),
        ({"share": 2.0}, "f, data.inner.share", "a number up to 1; got 2.0"),
        (3, "f, data.inner", "a table; got 3"),
    ],
)
def test_a_wrong_key_of_a_settings_record_is_named(table: object, where: str, words: str) -> None:
    with pytest.raises(ConfigError) as raised:
        check_options(Outer, {"inner": table}, "f, data")
    assert raised.value.where == where
    assert words in str(raised.value)
