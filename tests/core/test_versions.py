import platform
from importlib.metadata import version

import precomp_sdk
from precomp_sdk import versions


def test_what_a_result_depends_on_is_named(monkeypatch):
    found = versions.environment_versions()
    assert found["precomp-sdk"] == precomp_sdk.__version__
    assert found["torch"] == version("torch")
    assert found["python"] == platform.python_version()
    monkeypatch.setattr(versions, "_PACKAGES", ("not-installed-anywhere",))
    assert versions.environment_versions()["not-installed-anywhere"] == "unknown"
