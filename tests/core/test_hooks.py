import ast
import inspect
import pkgutil
import pydoc
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import entry_points, version
from importlib.util import find_spec
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


def listed() -> tuple[dict[str, str], set[str]]:
    """Return what the stub lists: the public names with their modules, and the modules."""
    tree = ast.parse(Path(precomp_sdk.__file__).with_suffix(".pyi").read_text(encoding="ascii"))
    found = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert all(alias.asname == alias.name for node in found for alias in node.names)  # or no type checker exports it
    names = [(alias.name, node.module) for node in found if node.module for alias in node.names]
    assert len(dict(names)) == len(names)
    return dict(names), {alias.name for node in found if not node.module for alias in node.names}


def test_every_public_name_is_one_of_its_module_and_documented() -> None:
    names, _ = listed()
    assert len(names) > 80
    for name, module in names.items():
        assert name in import_module(f"precomp_sdk.{module}").__all__, name
        item = getattr(precomp_sdk, name)
        if inspect.isclass(item) or inspect.isfunction(item):
            assert item.__doc__, name


def test_public_names_and_modules_are_those_that_a_type_checker_sees() -> None:
    names, modules = listed()
    there = {path.stem for path in Path(precomp_sdk.__file__).parent.iterdir() if path.name[0].isalpha()}
    assert modules == {name for name in there if find_spec(f"precomp_sdk.{name}")} - {"builtin"}
    assert set(dir(precomp_sdk)) == {*names, *modules}
    assert not names.keys() & modules  # no module bears the name of a public function
    with pytest.raises(AttributeError, match=r"module 'precomp_sdk' has no attribute 'Codek'"):
        _ = precomp_sdk.Codek


@pytest.mark.slow
def test_what_is_public_is_imported_when_it_is_used() -> None:
    code = (
        "import sys, precomp_sdk; print('torch' in sys.modules, precomp_sdk.__version__)\n"
        "precomp_sdk.Codec; print('torch' in sys.modules, 'precomp_sdk.training' in sys.modules)\n"
        "print(precomp_sdk.training.Trainer is precomp_sdk.Trainer)\n"
        "from precomp_sdk import Compressor, TrainSettings, evaluate; print(callable(evaluate))\n"
        "print({'lightning_fabric', 'torchvision', 'scipy.stats', 'matplotlib'} & {*sys.modules})"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["False", version("precomp-sdk"), "True", "False", "True", "True", "set()"]


def test_help_on_the_package_fits_a_page() -> None:
    page = pydoc.plain(pydoc.render_doc(precomp_sdk)).splitlines()
    contents = list(pkgutil.iter_modules(precomp_sdk.__path__))
    assert len(page) < len(contents) + 40  # a line for each module, and what to begin with
    assert not any(line.strip().startswith(("class ", "Methods defined here")) for line in page)
    assert any("Trainer" in line for line in page)


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


def is_public(module: str, name: str) -> bool:
    """Tell whether a name is one of precomp_sdk itself, or in the ``__all__`` of one of its public modules."""
    if module == "precomp_sdk":
        return name in dir(precomp_sdk)
    inside = module.removeprefix("precomp_sdk.")
    return inside in listed()[1] and name in import_module(module).__all__


def test_plugins_import_public_names_only() -> None:
    found = {path: list(imports(ast.parse(path.read_text(encoding="utf-8")))) for path in SOURCES}

    plugins = {path.relative_to(PLUGINS).parts[0] for path, names in found.items() if names}
    assert len(plugins) >= 4  # it found imports to check, in every plugin
    assert plugins == {path.relative_to(PLUGINS).parts[0] for path in SOURCES}
    assert sum(len(names) for names in found.values()) > 50
    for path, names in found.items():
        for module, name in names:
            assert is_public(module, name), f"{path}: {name} of {module} is not public"


def test_the_check_of_imports_sees_what_is_private() -> None:
    tree = ast.parse(
        "from precomp_sdk.evaluation.rates._pchip import pchip_integral\nimport precomp_sdk.codec\nimport torch"
    )

    assert list(imports(tree)) == [
        ("precomp_sdk.evaluation.rates._pchip", "pchip_integral"),
        ("precomp_sdk.codec", ""),
    ]


@pytest.mark.parametrize(
    ("module", "name", "public"),
    [
        ("precomp_sdk", "Codec", True),
        ("precomp_sdk", "images", True),
        ("precomp_sdk.training", "calibrate", True),
        ("precomp_sdk", "hookspecs_of_mine", False),
        ("precomp_sdk.training", "Loop", False),
        ("precomp_sdk.training.objective", "AnchorPoint", False),  # of a module inside a public one
        ("precomp_sdk._plugins", "describe", False),
        ("precomp_sdk.builtin", "precomp_register_tasks", False),
    ],
)
def test_what_a_plugin_may_import(module: str, name: str, public: bool) -> None:
    assert is_public(module, name) is public


def test_plugins_use_names_of_the_package_only_through_imports() -> None:
    """No plugin reaches into the package by attribute, such as precomp_sdk.registry._KINDS."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "precomp_sdk":
                assert node.attr in dir(precomp_sdk), f"{path}:{node.lineno}"


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
