"""A fitted proxy's file knows its codec."""

from pathlib import Path

import pytest
import torch

from precomp_sdk.errors import CheckpointError, OptionError
from precomp_sdk.proxy import check_proxy_codec
from precomp_sdk.testing import FakeCodec, FakeProxy
from precomp_sdk.training import load_fitting_proxy, load_proxy, proxy_files, read_module, save_module, save_proxy


class Newer(FakeCodec):
    @property
    def version(self) -> str:
        return "zlib from the future"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    proxy = FakeProxy(FakeCodec())
    with torch.no_grad():
        proxy.log_scale.fill_(0.5)
    save_proxy(tmp_path / "proxy.safetensors", proxy, facts={"images": 3})
    return tmp_path / "proxy.safetensors"


def test_codec_options_version_and_facts_are_inside(path: Path) -> None:
    codec = FakeCodec()
    assert read_module(path).facts == {
        "images": 3,
        "codec": "fake",
        "codec_options": {"level": 6},
        "codec_version": codec.version,
    }


def test_the_codec_it_was_fitted_to_takes_it(path: Path) -> None:
    proxy = FakeProxy(FakeCodec())
    load_proxy(path, proxy)
    assert float(proxy.log_scale.detach()) == 0.5


class AnyFake(FakeProxy):
    codec_name = "*"


class OtherCodec(FakeCodec):
    name = "other"


@pytest.mark.parametrize(
    ("codec", "told"),
    [(OtherCodec(), "codec 'fake'|'other'"), (FakeCodec(level=1), "codec options"), (Newer(), "codec version")],
)
def test_another_codec_other_options_and_another_version_are_refused(path: Path, codec: FakeCodec, told: str) -> None:
    proxy = AnyFake(codec)
    with pytest.raises(CheckpointError, match=told) as caught:
        load_proxy(path, proxy)
    assert "fit-proxy" in caught.value.remedy
    assert float(proxy.log_scale.detach()) == 0.0  # unchanged


def test_a_file_that_does_not_say_what_it_was_fitted_to_is_refused(tmp_path: Path) -> None:
    proxy = FakeProxy(FakeCodec())
    save_module(tmp_path / "bare.safetensors", proxy, name=proxy.name, options=proxy.options, facts={})
    with pytest.raises(CheckpointError, match="codec 'fake'; got a file that does not say"):
        load_proxy(tmp_path / "bare.safetensors", proxy)


def test_another_version_can_be_accepted_and_other_options_cannot(path: Path) -> None:
    proxy = FakeProxy(Newer())
    load_proxy(path, proxy, any_version=True)
    assert float(proxy.log_scale.detach()) == 0.5
    assert proxy.fitted_to == FakeCodec().version
    save_proxy(path.with_name("again.safetensors"), proxy)  # does not turn it into one of the newer codec
    with pytest.raises(CheckpointError, match="codec version"):
        load_proxy(path.with_name("again.safetensors"), FakeProxy(Newer()))
    with pytest.raises(CheckpointError, match="options"):
        load_proxy(path, FakeProxy(FakeCodec(level=1)), any_version=True)


def test_the_first_file_that_fits_is_loaded_and_each_is_read_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = FakeProxy(FakeCodec(level=1))
    save_proxy(path.with_name("other.safetensors"), other)
    read: list[Path] = []
    monkeypatch.setattr(proxy_files, "read_module", lambda file: read.append(file) or read_module(file))
    paths = [path.with_name("other.safetensors"), path, path]

    proxy = FakeProxy(Newer())
    saved = load_fitting_proxy(paths, proxy)

    assert saved is not None
    assert float(proxy.log_scale.detach()) == 0.5
    assert proxy.fitted_to == FakeCodec().version
    assert read == paths[:2]
    assert load_fitting_proxy(paths[1:], FakeProxy(FakeCodec(level=1))) is None
    load_proxy(path, FakeProxy(FakeCodec()))
    assert read.count(path) == 4


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"rubbish")
    with pytest.raises(CheckpointError, match="written by precomp_sdk"):
        load_proxy(tmp_path / "x.safetensors", FakeProxy(FakeCodec()))


class Limited(FakeCodec):
    """With an option that changes no bit."""

    limits = frozenset({"max_pixels"})

    def __init__(self, *, level: int = 6, max_pixels: int = 1000) -> None:
        super().__init__(level=level)
        self._max_pixels = max_pixels

    @property
    def options(self) -> dict[str, object]:
        return {**super().options, "max_pixels": self._max_pixels}


def test_limits_are_no_part_of_what_a_proxy_was_fitted_to(tmp_path: Path) -> None:
    path = tmp_path / "proxy.safetensors"
    proxy = FakeProxy(Limited())
    save_proxy(path, proxy)
    assert read_module(path).facts["codec_options"] == {"level": 6}
    load_proxy(path, FakeProxy(Limited(max_pixels=5)))
    assert load_fitting_proxy([path], FakeProxy(Limited(max_pixels=5)))
    older = {"codec": "fake", "codec_options": {"level": 6, "max_pixels": 7}, "codec_version": Limited().version}
    save_module(path, proxy, name=proxy.name, options=proxy.options, facts=older)
    load_proxy(path, proxy)
    assert load_fitting_proxy([path], proxy)
    with pytest.raises(CheckpointError, match="codec options"):
        load_proxy(path, FakeProxy(Limited(level=1)))
    check_proxy_codec(proxy, Limited(max_pixels=5), "a test")
    with pytest.raises(OptionError, match="level"):
        check_proxy_codec(proxy, Limited(level=1), "a test")
