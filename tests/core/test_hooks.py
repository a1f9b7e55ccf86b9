import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import pluggy
import pytest

import precomp_sdk
from precomp_sdk import Registry, hookspecs

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
SOURCES = sorted(PLUGINS.glob("precomp_*/**/*.py"))


def test_every_hook_is_a_typed_specification_with_a_text() -> None:
    manager = pluggy.PluginManager(hookspecs.PROJECT_NAME)
    manager.add_hookspecs(hookspecs)

    names = [name for name in hookspecs.__all__ if name.startswith("precomp_")]

    assert len(names) == 6
    for name in names:
        spec = getattr(hookspecs, name)
        signature = inspect.signature(spec)
        assert hasattr(manager.hook, name)
        assert spec.__doc__
        assert signature.return_annotation is not inspect.Signature.empty
        assert all(item.annotation is not item.empty for item in signature.parameters.values())
        if name.startswith("precomp_register_"):
            with pytest.raises(NotImplementedError):
                spec()


def test_every_public_name_exists_and_is_documented() -> None:
    assert len(precomp_sdk.__all__) > 50
    assert len(set(precomp_sdk.__all__)) == len(precomp_sdk.__all__)
    for name in precomp_sdk.__all__:
        item = getattr(precomp_sdk, name)
        if inspect.isclass(item) or inspect.isfunction(item):
            assert item.__doc__, name


def test_public_names_are_those_that_a_type_checker_sees_and_are_imported_when_used() -> None:
    tree = ast.parse(Path(precomp_sdk.__file__).read_text(encoding="utf-8"))
    seen = {name for module, name in imports(tree) if module.startswith("precomp_sdk.")}
    assert seen == set(precomp_sdk.__all__) <= set(dir(precomp_sdk))
    with pytest.raises(AttributeError, match="no attribute 'Codek'"):
        _ = precomp_sdk.Codek
    code = "import sys, precomp_sdk; print('torch' in sys.modules); precomp_sdk.Codec; print('torch' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["False", "True"]


def test_what_is_shipped_comes_through_entry_points_and_works() -> None:
    own = [
        item
        for item in entry_points(group=hookspecs.ENTRY_POINT_GROUP)
        if item.dist and item.dist.name == "precomp-sdk"
    ]
    folders = {path.name for path in PLUGINS.iterdir() if (path / "__init__.py").exists()}

    assert {item.value for item in own} <= {*folders, "precomp_sdk.builtin"}
    assert {"precomp_jpeg", "precomp_qacnn", "precomp_torchvision", "precomp_data"} <= {item.value for item in own}
    states = {item.name: item for item in Registry().plugins()}
    assert {item.name for item in own} <= states.keys()
    assert all(states[item.name].state in ("ok", "unavailable") for item in own), states


def imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield (module, name) for everything of precomp_sdk that is imported; a module itself has no name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "precomp_sdk":
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.split(".")[0] == "precomp_sdk")


def test_plugins_import_public_names_only() -> None:
    found = {path: list(imports(ast.parse(path.read_text(encoding="utf-8")))) for path in SOURCES}

    plugins = {path.relative_to(PLUGINS).parts[0] for path, names in found.items() if names}
    assert len(plugins) >= 4  # it found imports to check, in every plugin
    assert plugins == {path.relative_to(PLUGINS).parts[0] for path in SOURCES}
    assert sum(len(names) for names in found.values()) > 50
    for path, names in found.items():
        for module, name in names:
            assert not any(part.startswith("_") for part in module.split(".")), f"{path}: {module}"
            assert name in import_module(module).__all__, f"{path}: {name} of {module} is not public"


def test_the_check_of_imports_sees_what_is_private() -> None:
    tree = ast.parse(
        "from precomp_sdk.evaluation.rates._pchip import pchip_integral\nimport precomp_sdk.codec\nimport torch"
    )

    assert list(imports(tree)) == [
        ("precomp_sdk.evaluation.rates._pchip", "pchip_integral"),
        ("precomp_sdk.codec", ""),
    ]


def test_plugins_use_names_of_the_package_only_through_imports() -> None:
    """No plugin reaches into the package by attribute, such as precomp_sdk.registry._KINDS."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "precomp_sdk":
                assert node.attr in precomp_sdk.__all__, f"{path}:{node.lineno}"


def test_the_core_does_not_import_plugins() -> None:
    core = Path(precomp_sdk.__file__).parent
    plugins = {path.name for path in PLUGINS.iterdir() if path.is_dir()}
    sources = list(core.rglob("*.py"))

    assert len(sources) > 40
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not {name.split(".")[0] for name in names} & plugins, f"{path}"
    assert "precomp_sdk" in sys.modules
