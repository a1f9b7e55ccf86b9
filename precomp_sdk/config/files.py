"""Reading and writing experiment files."""

import json
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import tomli_w
from pydantic import ValidationError

from precomp_sdk._deprecated import current_tables
from precomp_sdk.config._messages import explain, relocate
from precomp_sdk.config._toml import merged, parse_override, tables_of, whole_numbers, with_none
from precomp_sdk.config.experiment import Experiment, ProxyEvaluation, ProxyFitting, Table
from precomp_sdk.config.transfer import Transfer
from precomp_sdk.errors import ConfigError, OptionError, UnknownNameError, reason_of
from precomp_sdk.validation import LFS_POINTER

__all__ = [
    "EXPERIMENT_FILE",
    "dump_experiment",
    "dump_transfer",
    "load_experiment",
    "load_transfer",
    "parse_experiment",
    "parse_proxy_evaluation",
    "parse_proxy_fitting",
    "parse_transfer",
]

_BESIDE_A_RECORD = ("run.json", "preprocessor.safetensors", "state.pt")
EXPERIMENT_FILE = "experiment.toml"  #: what an experiment is recorded as, beside its results

T = TypeVar("T", bound=Table)


def load_experiment(path: Path | str, overrides: Iterable[str] = ()) -> Experiment:
    """Read an experiment file.

    Args:
        path: a TOML file, or a folder with an ``experiment.toml``. Paths in it count from the current folder.
        overrides: ``key.path=value`` each, with the value in TOML's syntax; a bare word is a string.

    Raises:
        ConfigError: the file cannot be read, or a key or a value in it is wrong.
    """
    path = Path(path)
    if path.is_dir():
        path = path / EXPERIMENT_FILE
    return _parse(Experiment, _read(path), str(path), overrides, record=_is_record(path))


def parse_experiment(
    tables: Mapping[str, Any], *, origin: str = "experiment", overrides: Iterable[str] = ()
) -> Experiment:
    """Validate an experiment that is at hand as tables.

    Args:
        tables: as in a file.
        origin: stands for the file in messages.
        overrides: as for `load_experiment`.

    Raises:
        ConfigError: a key or a value is wrong.
    """
    return _parse(Experiment, tables, origin, overrides)


def parse_proxy_fitting(
    tables: Mapping[str, Any], *, origin: str = "fit-proxy", overrides: Iterable[str] = ()
) -> ProxyFitting:
    """Validate the description of a proxy to be fitted: tables ``codec``, ``proxy``, ``data`` and ``fit``.

    Raises:
        ConfigError: a key or a value is wrong.
    """
    return _parse(ProxyFitting, tables, origin, overrides)


def parse_proxy_evaluation(
    tables: Mapping[str, Any], *, origin: str = "evaluate-proxy", overrides: Iterable[str] = ()
) -> ProxyEvaluation:
    """Validate the description of a proxy to be measured: tables ``codec``, ``proxy``, ``data`` and ``evaluate``.

    Raises:
        ConfigError: a key or a value is wrong.
    """
    return _parse(ProxyEvaluation, tables, origin, overrides)


def load_transfer(path: Path | str, overrides: Iterable[str] = ()) -> Transfer:
    """Read the file of a transfer matrix.

    Args:
        path: a TOML file. Paths in it count from the current folder.
        overrides: as for `load_experiment`.

    Raises:
        ConfigError: the file cannot be read, or a key or a value in it is wrong.
    """
    return parse_transfer(_read(Path(path)), origin=str(path), overrides=overrides)


def parse_transfer(tables: Mapping[str, Any], *, origin: str = "transfer", overrides: Iterable[str] = ()) -> Transfer:
    """Validate the description of a transfer matrix.

    Raises:
        ConfigError: a key or a value is wrong.
    """
    return _parse(Transfer, tables, origin, overrides)


def dump_experiment(experiment: Experiment) -> str:
    """Write an experiment as TOML, with every default spelled out; `load_experiment` reads the same back.

    TOML has no null: an option that is None and is not so by default is written as ``"none"``.

    Raises:
        ConfigError: an option holds what no TOML file can hold.
    """
    return tomli_w.dumps(tables_of(experiment))


def dump_transfer(transfer: Transfer) -> str:
    """Write the description of a matrix as TOML, with every default spelled out; `load_transfer` reads it back."""
    return tomli_w.dumps(tables_of(transfer))


def _read(path: Path) -> dict[str, Any]:
    try:
        content = path.read_bytes()
        if content.startswith(LFS_POINTER):
            raise ValueError("a pointer of git-lfs: the file itself was not downloaded (git lfs pull)")
        return tomllib.loads(content.decode("utf-8-sig"))  # editors of Windows write a byte order mark
    except (OSError, ValueError, RecursionError) as error:  # also values nested too deeply
        raise ConfigError(
            where=str(path),
            expected="a TOML file",
            got=reason_of(error),
            remedy="Look at the path, or mend the line.",
        ) from error


def _is_record(path: Path) -> bool:
    """Whether a run wrote the file, beside its weights, state or record."""
    return path.name == EXPERIMENT_FILE and any((path.parent / name).exists() for name in _BESIDE_A_RECORD)


def _parse(
    model: type[T], tables: Mapping[str, Any], origin: str, overrides: Iterable[str], *, record: bool = False
) -> T:
    tables = current_tables(tables, origin, record=record)
    for override in overrides:  # one by one: each may use old names beside a file with new ones
        more = current_tables(parse_override(override), f"override {override!r}", over=tables)
        tables = merged(tables, more)
    try:
        parsed = _validated(model, tables)
    except ValidationError as error:
        raise explain(error, model, tables, origin) from error
    except (OptionError, UnknownNameError) as error:  # of a settings record's own checks
        raise relocate(error, model, tables, origin) from error
    parsed._origin = origin
    return parsed


def _validated(model: type[T], tables: Mapping[str, Any]) -> T:
    tables = with_none(tables, model)
    # as JSON, because there a list is a tuple and a key a number where the model says so, and nothing else is converted
    try:
        return model.model_validate_json(json.dumps(dict(tables), default=str))
    except ValidationError:
        with suppress(ValidationError):  # the first error names what stands in the file
            return model.model_validate_json(json.dumps(whole_numbers(tables), default=str))
        raise
