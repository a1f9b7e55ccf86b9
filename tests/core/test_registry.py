from types import ModuleType
from typing import Any, get_args, get_overloads, get_type_hints

import pytest

from precomp_sdk import (
    Codec,
    DuplicateNameError,
    Event,
    MissingDependencyError,
    Notice,
    OptionError,
    PluginError,
    Preprocessor,
    ProxyCodec,
    Registry,
    TaskDataset,
    TaskModel,
    UnknownNameError,
    construct,
    hookimpl,
)
from precomp_sdk._hosting import PluginWarning
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeProxy, FakeTask


class OneCodec:
    """A plugin that offers whatever it is given as codecs."""

    def __init__(self, *offered: Any) -> None:
        self._offered = offered

    @hookimpl
    def precomp_register_codecs(self) -> list[Any]:
        return list(self._offered)


class Renamed(FakeCodec):
    name = "renamed"


def test_two_registries_are_independent(doubles: Registry) -> None:
    other = Registry(entry_points=False)
    other.register(OneCodec(Renamed), "other")

    assert list(doubles.codecs) == ["fake"]
    assert list(other.codecs) == ["renamed"]
    assert [item.name for item in other.plugins()] == ["other"]


def test_every_kind_is_a_read_only_mapping(doubles: Registry) -> None:
    kinds: dict[str, tuple[Any, type]] = {
        "codecs": (doubles.codecs, FakeCodec),
        "proxies": (doubles.proxies, FakeProxy),
        "preprocessors": (doubles.preprocessors, FakePreprocessor),
        "tasks": (doubles.tasks, FakeTask),
        "datasets": (doubles.datasets, FakeDataset),
    }
    for mapping, cls in kinds.values():
        assert dict(mapping) == {"fake": cls}
        with pytest.raises(TypeError):
            mapping["mine"] = cls
    assert len(doubles.components()) == 5


def test_a_name_that_is_taken_is_refused_and_both_are_named(doubles: Registry) -> None:
    class Fake(FakeCodec):
        pass

    with pytest.raises(DuplicateNameError) as caught:
        doubles.register(OneCodec(Renamed, Fake), "again")

    assert "precomp_sdk.testing.doubles.FakeCodec" in caught.value.got
    assert "Fake of (registered in code)" in caught.value.got
    assert dict(doubles.codecs) == {"fake": FakeCodec}  # nothing of the refused plugin is left
    assert [item.name for item in doubles.plugins()] == ["doubles"]
    doubles.register(OneCodec(Renamed), "again")  # and its place is free
    assert sorted(doubles.codecs) == ["fake", "renamed"]


def test_one_plugin_cannot_offer_a_name_twice() -> None:
    with pytest.raises(DuplicateNameError, match="'renamed', offered by"):
        Registry(entry_points=False).register(OneCodec(Renamed, type("Twin", (Renamed,), {})))


def test_a_misspelled_hook_is_answered_with_the_nearest_one() -> None:
    class Misspelled:
        @hookimpl
        def precomp_register_codec(self) -> list[type[Codec]]:
            return [FakeCodec]

    with pytest.raises(PluginError, match=r"got precomp_register_codec\. Did you mean 'precomp_register_codecs'"):
        Registry(entry_points=False).register(Misspelled())


def test_a_hook_without_its_mark_is_told() -> None:
    class Unmarked:
        def precomp_register_codecs(self) -> list[type[Codec]]:
            return [FakeCodec]

    with pytest.raises(PluginError, match=r"hooks without the mark: \['precomp_register_codecs'\].*@hookimpl"):
        Registry(entry_points=False).register(Unmarked())


def test_a_hook_without_its_mark_is_told_beside_one_that_has_it() -> None:
    class HalfMarked(OneCodec):
        def precomp_register_tasks(self) -> list[type[TaskModel]]:
            return [FakeTask]

    with pytest.raises(PluginError, match=r"hooks without the mark: \['precomp_register_tasks'\]"):
        Registry(entry_points=False).register(HalfMarked(FakeCodec))


def test_a_plugin_is_registered_once() -> None:
    registry = Registry(entry_points=False)
    plugin = OneCodec(FakeCodec)
    registry.register(plugin, "mine")

    for again, title, told in ((plugin, "other", "a second time"), (OneCodec(Renamed), "mine", "of the same name")):
        with pytest.raises(PluginError, match=f"a plugin that is not registered yet; got .*{told}"):
            registry.register(again, title)
    assert list(registry.codecs) == ["fake"]
    assert [item.name for item in registry.plugins()] == ["mine"]


def test_a_plugin_without_any_hook_is_refused() -> None:
    with pytest.raises(PluginError, match="expected at least one function marked"):
        Registry(entry_points=False).register(ModuleType("empty"))


class Abstract(Codec):
    name = "abstract"
    source = "none"

    def _encode(self, image: Any, quality: float) -> bytes:
        return b"x"


@pytest.mark.parametrize(
    ("offered", "got"),
    [
        (FakeCodec(), "an instance of FakeCodec"),
        (FakeTask, "FakeTask"),
        ("fake", "an instance of str"),
        (Abstract, r"Abstract without \['_decode'\]"),
    ],
)
def test_what_is_no_concrete_class_of_the_contract_is_refused(offered: object, got: str) -> None:
    registry = Registry(entry_points=False)

    with pytest.raises(PluginError, match=f"concrete subclasses of Codec; got {got}"):
        registry.register(OneCodec(offered))
    assert dict(registry.codecs) == {}


@pytest.mark.parametrize("attribute", ["name", "source"])
def test_a_class_says_its_name_and_source(attribute: str) -> None:
    nameless = type("Nameless", (FakeCodec,), {attribute: None})

    with pytest.raises(PluginError, match=f"a class attribute '{attribute}' of type str; got None"):
        Registry(entry_points=False).register(OneCodec(nameless))


def test_components_are_constructed_by_name_with_their_options(doubles: Registry) -> None:
    codec: Codec = doubles.create("codec", "fake", level=2)
    task: TaskModel = doubles.create("task", "fake")
    dataset: TaskDataset = doubles.create("dataset", "fake", count=3)
    preprocessor: Preprocessor = doubles.create("preprocessor", "fake", gain=0.5)

    assert codec.options == {"level": 2}
    assert isinstance(task, FakeTask)
    assert len(dataset) == 3
    assert preprocessor.name == "fake"


def test_wrong_names_kinds_and_options_are_answered_with_the_nearest(doubles: Registry) -> None:
    with pytest.raises(UnknownNameError, match=r"the name of a codec; got 'fale'\. Did you mean 'fake'"):
        doubles.create("codec", "fale")
    with pytest.raises(UnknownNameError, match=r"a kind of component; got 'codek'\. Did you mean 'codec'"):
        doubles.create("codek", "fake")
    with pytest.raises(OptionError, match=r"a known option; got 'levle'\. Did you mean 'level'"):
        doubles.create("codec", "fake", levle=2)


def test_a_missing_option_is_told() -> None:
    class Needs:
        def __init__(self, *, root: str) -> None: ...

    with pytest.raises(OptionError, match=r"options \['root'\]; got missing a required argument: 'root'"):
        construct(Needs)


class Any1(FakeProxy):
    name = "any"
    codec_name = "*"


class Second(FakeProxy):
    name = "second"


class Proxies:
    def __init__(self, *classes: type[ProxyCodec]) -> None:
        self._classes = classes

    @hookimpl
    def precomp_register_proxies(self) -> list[type[ProxyCodec]]:
        return list(self._classes)


def test_a_codec_gets_the_proxy_asked_for_else_its_own_else_one_that_learns_any() -> None:
    registry = Registry(entry_points=False)
    registry.register(Proxies(Any1), "any")
    codec = FakeCodec()

    assert isinstance(registry.proxy_for(codec), Any1)
    registry.register(Proxies(FakeProxy, Second), "own")
    assert type(registry.proxy_for(codec)) is FakeProxy  # the first of its own
    assert type(registry.proxy_for(codec, "second")) is Second
    assert registry.proxy_class(Renamed()) is Any1
    assert registry.proxy_for(codec).codec is codec


def test_proxies_that_do_not_exist_or_do_not_fit_are_refused(doubles: Registry) -> None:
    with pytest.raises(UnknownNameError, match=r"a proxy for codec 'renamed'; got proxies for \['fake'\]"):
        doubles.proxy_for(Renamed())
    with pytest.raises(UnknownNameError, match=r"got 'fak'\. Did you mean 'fake'"):
        doubles.proxy_class(FakeCodec(), "fak")
    with pytest.raises(PluginError, match="expected the codec 'fake'; got 'renamed'"):
        doubles.proxy_for(Renamed(), "fake")
    with pytest.raises(OptionError, match="got 'speed'"):
        doubles.proxy_for(FakeCodec(), speed=1)


def test_an_observer_that_raises_is_told_once_and_gets_no_more_events() -> None:
    class Watcher:
        def __init__(self) -> None:
            self.seen: list[Event] = []

        @hookimpl
        def precomp_on_event(self, event: Event) -> None:
            self.seen.append(event)
            if len(self.seen) == 2:
                raise MissingDependencyError(where="watcher", expected="a", got="b", remedy="c")

    registry = Registry(entry_points=False)
    first, second = Watcher(), Watcher()
    registry.register(first, "first")
    registry.register(second, "second")
    event = Notice("train", "x")

    registry.notify(event)

    assert first.seen == second.seen == [event]
    with pytest.warns(PluginWarning) as told:
        registry.notify(event)
    assert sorted(str(item.message).partition(":")[2].partition(":")[0] for item in told) == ["first", "second"]
    registry.notify(event)
    assert len(first.seen) == len(second.seen) == 2
    assert all("MissingDependencyError" in item.error and item.state == "ok" for item in registry.plugins())


def test_create_is_typed_for_every_kind_it_makes():
    typed = {}
    for overload in get_overloads(Registry.create):
        hints = get_type_hints(overload)
        if get_args(hints["kind"]):
            typed[get_args(hints["kind"])[0]] = hints["return"]
    assert typed == {"codec": Codec, "preprocessor": Preprocessor, "task": TaskModel, "dataset": TaskDataset}
