"""`precomp info` and `precomp plugins --kind`."""

import json
from collections.abc import Callable

import pytest
from typer.testing import Result

from precomp_sdk import Registry
from precomp_sdk.run import describe
from precomp_sdk.run.description import arguments_of_docstring

Call = Callable[..., Result]


def test_info_tells_options_with_defaults_and_meanings(call: Call) -> None:
    told = call("info", "jpeg", registry=None)

    assert told.exit_code == 0
    assert "codec jpeg, of precomp-sdk" in told.stdout
    assert "quality: quality 1 to 100, higher is better" in told.stdout
    assert "licence: Apache-2.0" in told.stdout
    assert "Huffman tables made for each image" in " ".join(told.stdout.split())


def test_info_as_json_has_the_same(call: Call) -> None:
    found = json.loads(call("info", "jpeg", "--json", registry=None).stdout)

    assert found["source"].startswith("ITU-T T.81")
    assert {option["name"] for option in found["options"]} >= {"subsampling", "optimize", "progressive", "tables"}


@pytest.mark.parametrize(
    ("name", "fitted"),
    [("bpg-proxy", "yes, to PyAV"), ("generic-proxy", "no: `precomp fit-proxy`"), ("jpeg-proxy", "yes")],
)
def test_info_says_whether_a_proxy_is_fitted(name: str, fitted: str) -> None:
    assert describe(name, Registry()).facts["fitted"].startswith(fitted)


def test_every_shipped_option_has_a_meaning() -> None:
    registry = Registry()
    described = [describe(item.name, registry, kind=item.kind) for item in registry.components()]

    assert len(described) > 30
    assert [(item.name, option.name) for item in described for option in item.options if not option.meaning] == []
    assert [item.name for item in described if not item.summary] == []


def test_what_a_preprocessor_works_with_is_told() -> None:
    assert describe("qa-guided", Registry()).facts["works with"] == "task"
    assert describe("qa-light", Registry()).facts["works with"] == "the image alone"


def test_a_wrong_name_or_kind_names_the_nearest(call: Call) -> None:
    assert "Did you mean 'jpeg'" in call("info", "jpge", registry=None).stderr
    assert "Did you mean 'codec'" in call("plugins", "--kind", "kodec").stderr
    assert "one of codec, proxy" in call("info", "fake").stderr


def test_plugins_of_one_kind(call: Call) -> None:
    listed = json.loads(call("plugins", "--kind", "codec", "--json", registry=None).stdout)["components"]

    assert {row["kind"] for row in listed} == {"codec"}
    assert len(listed) >= 8


def test_a_docstring_without_arguments_tells_none() -> None:
    assert arguments_of_docstring(len) == {}
