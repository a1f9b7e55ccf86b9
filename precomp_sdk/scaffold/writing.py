"""Writes the skeleton of a plugin."""

import keyword
import re
import shutil
import sys
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from precomp_sdk.errors import OptionError, PluginError, UnknownNameError, nearest

__all__ = ["KINDS", "new_plugin"]

KINDS = ("codec", "proxy", "preprocessor", "task", "dataset")  #: what a plugin can bring

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_HOOKS = {
    "codec": ("precomp_register_codecs", "Codec"),
    "proxy": ("precomp_register_proxies", "ProxyCodec"),
    "preprocessor": ("precomp_register_preprocessors", "Preprocessor"),
    "task": ("precomp_register_tasks", "TaskModel"),
    "dataset": ("precomp_register_datasets", "TaskDataset"),
}
_SUFFIXES = {"codec": "Codec", "proxy": "Proxy", "preprocessor": "Preprocessor", "task": "Task", "dataset": "Dataset"}


def new_plugin(name: str, kind: str, parent: Path | str = ".") -> Path:
    """Write a plugin that works as written: its own ``pyproject.toml``, README, one component and its tests.

    Args:
        name: of the distribution, of its folder and of the component, in kebab-case; the import package has
            underscores instead.
        kind: one of `KINDS`.
        parent: the folder to make it in.

    Returns:
        The new folder.

    Raises:
        UnknownNameError: there is no such kind.
        OptionError: the name is not in kebab-case, or is taken by a module that Python knows or by the contract.
        PluginError: the folder exists.

    Example:
        >>> import tempfile
        >>> folder = new_plugin("my-codec", "codec", tempfile.mkdtemp())
        >>> sorted(path.name for path in folder.iterdir())
        ['README.md', 'pyproject.toml', 'src', 'tests']
    """
    if kind not in KINDS:
        raise UnknownNameError(
            where="new_plugin", expected="a kind of plugin", got=repr(kind), remedy=nearest(kind, KINDS)
        )
    package = name.replace("-", "_")
    _check_name(name, package)
    folder = Path(parent) / name
    if folder.exists():
        raise PluginError(
            where=str(folder),
            expected="a folder that is yet to be made",
            got="one that exists",
            remedy="Choose another name, or move the folder away.",
        )
    words = name.split("-")
    suffix = _SUFFIXES[kind]
    class_name = "".join(word.capitalize() for word in (words[:-1] if words[-1] == suffix.lower() else words)) + suffix
    hook, contract = _HOOKS[kind]
    if class_name == contract:
        raise _taken(name, f"class would be called like the contract, {contract}")
    values = {
        "name": name,
        "package": package,
        "class": class_name,
        "kind": kind,
        "hook": hook,
        "contract": contract,
    }
    written = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        f"src/{package}/__init__.py": "init.py",
        f"src/{package}/{kind}.py": f"{kind}.py",
        f"src/{package}/py.typed": None,
        f"tests/test_{package}.py": f"test_{kind}.py",
    }
    try:
        for path, template in written.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text("" if template is None else _filled(template, values), encoding="utf-8")
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def _check_name(name: str, package: str) -> None:
    if not _NAME.fullmatch(name):
        raise OptionError(
            where="new_plugin, name",
            expected="lower-case words of letters and digits, joined by hyphens, such as 'my-codec'",
            got=repr(name),
            remedy="Choose another name.",
        )
    if keyword.iskeyword(package) or package in sys.stdlib_module_names or find_spec(package) is not None:
        raise _taken(name, f"import package {package!r} exists")


def _taken(name: str, why: str) -> OptionError:
    return OptionError(
        where="new_plugin, name",
        expected="a name that is not taken",
        got=f"{name!r}, whose {why}",
        remedy="Choose another name, such as one that starts with your project's.",
    )


def _filled(template: str, values: dict[str, str]) -> str:
    """Return a template with ``@word@`` replaced."""
    text = files("precomp_sdk.scaffold").joinpath("templates", f"{template}.txt").read_text(encoding="utf-8")
    return re.sub(r"@(\w+)@", lambda found: values[found[1]], text)
