from typing import Any

import pytest

from precomp_sdk import OptionError
from precomp_sdk.training.fabric import make_fabric


def test_a_precision_without_its_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(**options: Any) -> None:
        raise ModuleNotFoundError("No module named 'transformer_engine'")

    monkeypatch.setattr("lightning_fabric.Fabric", lacking)
    with pytest.raises(OptionError, match=r"precision.*'transformer-engine': No module named"):
        make_fabric("transformer-engine")


def test_processes_of_torchrun_are_all_used(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []
    monkeypatch.setattr("lightning_fabric.Fabric", lambda **options: made.append(options))
    make_fabric()
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "8"}.items():
        monkeypatch.setenv(name, value)
    make_fabric("bf16-mixed")

    assert [(item["devices"], item["num_nodes"], item["precision"]) for item in made] == [
        (1, 1, "32-true"),
        (4, 2, "bf16-mixed"),
    ]
