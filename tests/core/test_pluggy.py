"""Hooks go through pluggy: its marks mean here what they mean there."""

from collections.abc import Generator
from typing import Any

import pytest

from precomp_sdk import Codec, Event, Notice, PluginError, ProxyCodec, Registry, hookimpl
from precomp_sdk._hosting import PluginWarning
from precomp_sdk.testing import FakeCodec, FakeProxy


def codec(title: str) -> type[Codec]:
    return type(title.title(), (FakeCodec,), {"name": title})


def proxy(title: str) -> type[ProxyCodec]:
    return type(title.title(), (FakeProxy,), {"name": title})


def plugin(*classes: type, **marks: Any) -> object:
    """Return a plugin with one marked function that offers proxies."""

    class Plugin:
        @hookimpl(**marks)
        def precomp_register_proxies(self) -> list[type]:
            return list(classes)

    return Plugin()


def registered(*plugins: object) -> Registry:
    registry = Registry(entry_points=False)
    for number, item in enumerate(plugins):
        registry.register(item, f"plugin{number}")
    return registry


def test_a_function_of_another_name_offers_by_its_specname() -> None:
    class Mine:
        @hookimpl(specname="precomp_register_codecs")
        def first_codecs(self) -> list[type[Codec]]:
            return [codec("one")]

        @hookimpl(specname="precomp_register_codecs")
        def precomp_second_codecs(self) -> list[type[Codec]]:
            return [codec("two")]

    registry = registered(Mine())

    assert sorted(registry.codecs) == ["one", "two"]
    assert [item.plugin.name for item in registry.components()] == ["plugin0", "plugin0"]


@pytest.mark.parametrize("misspelled", ["precomp_register_codec", "register_codecs"])
def test_a_misspelled_specname_is_answered_with_the_nearest_hook(misspelled: str) -> None:
    class Mine:
        @hookimpl(specname=misspelled)
        def offered(self) -> list[type[Codec]]:
            return []

    with pytest.raises(PluginError, match=f"got {misspelled}. Did you mean 'precomp_register_codecs'"):
        registered(Mine())


def test_an_optional_hook_of_a_later_version_is_no_error() -> None:
    class Mine:
        @hookimpl(optionalhook=True)
        def precomp_of_tomorrow(self) -> None: ...

        @hookimpl
        def precomp_register_codecs(self) -> list[type[Codec]]:
            return [codec("one")]

    assert list(registered(Mine()).codecs) == ["one"]


def test_tryfirst_and_trylast_order_the_offers_and_else_the_first_registered_comes_first() -> None:
    last = plugin(proxy("last"), trylast=True)
    early, late = plugin(proxy("early")), plugin(proxy("late"))
    first = plugin(proxy("first"), tryfirst=True)

    registry = registered(last, early, late, first)

    assert list(registry.proxies) == ["first", "early", "late", "last"]
    assert registry.proxy_class(FakeCodec()).name == "first"  # what becomes the codec's own
    assert registered(last, early).proxy_class(FakeCodec()).name == "early"


def test_a_wrapper_sees_the_offers_of_all_and_may_leave_some_out() -> None:
    seen: list[list[list[type]]] = []

    class Wrapper:
        @hookimpl(wrapper=True)
        def precomp_register_proxies(self) -> Generator[None, list[list[type]], list[list[type]]]:
            answers = yield
            seen.append(answers)
            return [[item for item in answer if item.__name__ != "Bad"] for answer in answers]

    registry = registered(plugin(proxy("good"), proxy("bad")), Wrapper(), plugin(proxy("late"), proxy("bad")))

    assert sorted(registry.proxies) == ["good", "late"]
    assert {item.name: item.plugin.name for item in registry.components()} == {"good": "plugin0", "late": "plugin2"}
    assert len(seen[-1]) == 2


def test_an_old_style_wrapper_works_too_and_what_it_adds_is_its_own() -> None:
    class Wrapper:
        @hookimpl(hookwrapper=True)
        def precomp_register_proxies(self) -> Generator[None, Any, None]:
            outcome = yield
            outcome.force_result([*outcome.get_result(), [proxy("added")]])

    registry = registered(Wrapper(), plugin(proxy("one")))

    assert {item.name: item.plugin.name for item in registry.components()} == {"one": "plugin1", "added": "plugin0"}


@pytest.mark.parametrize("answer", [None, [None], ["text"], FakeProxy])
def test_a_wrapper_that_returns_no_lists_is_refused(answer: Any) -> None:
    class Wrapper:
        @hookimpl(wrapper=True)
        def precomp_register_proxies(self) -> Generator[None, Any, Any]:
            yield
            return answer

    registry = registered(plugin(proxy("one")))
    with pytest.raises(PluginError, match="expected a list of classes"):
        registry.register(Wrapper(), "wrapper")
    assert list(registry.proxies) == ["one"]


def test_a_function_is_called_once_and_may_be_a_generator() -> None:
    calls = []

    class Counted:
        @hookimpl
        def precomp_register_codecs(self) -> Generator[type[Codec], None, None]:
            calls.append(1)
            yield codec("one")

    registry = registered(Counted(), plugin(proxy("a")), plugin(proxy("b")))

    assert list(registry.codecs) == ["one"]
    assert len(calls) == 1


def test_arguments_that_a_hook_does_not_have_are_told() -> None:
    class Mine:
        @hookimpl
        def precomp_on_event(self, evnt: Event) -> None: ...

    with pytest.raises(PluginError, match=r"plugin 'plugin0'.*expected hooks as their specifications say; got.*evnt"):
        registered(Mine())


def test_observers_are_ordered_and_wrapped() -> None:
    calls: list[str] = []

    def observer(name: str, **marks: Any) -> object:
        class Observer:
            @hookimpl(**marks)
            def precomp_on_event(self, event: Event) -> None:
                calls.append(name)

        return Observer()

    class Wrapper:
        @hookimpl(wrapper=True)
        def precomp_on_event(self, event: Event) -> Generator[None, None, None]:
            calls.append("before")
            yield
            calls.append("after")

    registry = registered(observer("last", trylast=True), Wrapper(), observer("first", tryfirst=True), observer("mid"))
    registry.notify(Notice("train", "x"))

    assert calls == ["before", "first", "mid", "last", "after"]


def test_an_observer_that_raises_leaves_the_others_their_events() -> None:
    seen: list[Event] = []

    class Raises:
        @hookimpl
        def precomp_on_event(self, event: Event) -> None:
            raise ZeroDivisionError("by\nzero")

    class Watches:
        @hookimpl
        def precomp_on_event(self, event: Event) -> None:
            seen.append(event)

    class Wraps:
        @hookimpl(wrapper=True)
        def precomp_on_event(self, event: Event) -> Generator[None, None, None]:
            yield
            raise KeyError("wrapper")

    registry = registered(Raises(), Watches(), Wraps())
    with pytest.warns(PluginWarning) as told:
        registry.notify(Notice("train", "1"))
    registry.notify(Notice("train", "2"))

    assert len(seen) == 2
    texts = sorted(str(item.message) for item in told)
    assert len(texts) == 2
    assert texts[0].endswith("plugin0: its observer failed and gets no more events: ZeroDivisionError: by zero")
    assert texts[1].endswith("plugin2: its observer failed and gets no more events: KeyError: 'wrapper'")
    assert [bool(item.error) for item in registry.plugins()] == [True, False, True]


def test_an_interrupt_goes_through_an_observer() -> None:
    class Interrupts:
        @hookimpl
        def precomp_on_event(self, event: Event) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        registered(Interrupts()).notify(Notice("train", "x"))


@pytest.mark.parametrize("failing", ["offers", "validation"])
def test_a_refused_plugin_leaves_nothing_behind(failing: str) -> None:
    class Bad:
        @hookimpl
        def precomp_register_codecs(self) -> list[Any]:
            if failing == "offers":
                raise OSError("no disk")
            return ["no class"]

        @hookimpl(wrapper=True)
        def precomp_register_proxies(self) -> Generator[None, Any, Any]:
            yield
            return []

    registry = registered(plugin(proxy("one")))
    with pytest.raises((OSError, PluginError)):
        registry.register(Bad(), "bad")

    registry.register(plugin(proxy("two")), "good")
    assert list(registry.proxies) == ["one", "two"]  # the wrapper is gone too
    assert [item.name for item in registry.plugins()] == ["plugin0", "good"]
