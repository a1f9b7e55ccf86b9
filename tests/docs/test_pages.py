"""Every Python and shell block of the README and the docs runs, page by page, in order, in a folder of its own.

A line before a block may say more:

- ``<!-- not run: why -->``
- ``<!-- tiny -->``: training gets small settings, in commands and in Python; ``<!-- tiny: key=value ... -->``: commands
  get these as well
- ``<!-- fails: text -->``: a command ends with this error
- ``<!-- file: name -->``: the block is written to a file
"""

import importlib.util
import inspect
import os
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib.metadata import distribution
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from typer.testing import CliRunner

import precomp_data
import precomp_sdk
import precomp_sdk.training.trainer
from precomp_jpeg import JPEGCodec
from precomp_qacnn import LightQACNN
from precomp_sdk import (
    Compressor,
    EvaluateSettings,
    FitProxySettings,
    FitTaskSettings,
    Registry,
    TrainSettings,
    cli,
    hookspecs,
)  # fmt: skip
from precomp_sdk.config import load_experiment
from precomp_sdk.image_io import write_image
from precomp_sdk.testing import natural_image

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("**/*.md"))]
FENCE = re.compile(
    r"(?:^<!-- (?P<marker>[^\n]*?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
NOT_RUN = {"results.md": "its commands train for minutes, on photographs that are not in the repository"}
MARKERS = ("not run", "tiny", "fails", "file")
TINY = (
    "data.task.count=16", "data.train.count=24", "data.val.count=8", "task.fit.epochs=1", "train.steps=2",
    "train.batch_size=2", "train.warmup_steps=0", "train.held_out_images=2", "train.held_out_every=2",
    "train.calibration_images=8", "train.checkpoint_every=2", "train.ladder=[5,26]", "train.lambdas={5=1.0,26=1.0}",
    "evaluate.ladder=[5,26]", "evaluate.baselines=['blur']", "evaluate.tuning_images=4", "evaluate.replicates=20",
    "preprocessor.width=8", "preprocessor.depth=1",
)  # fmt: skip
NEEDS_DRAWN = re.compile(r"data\.\w+\.count=")  # settings of drawn data sets
TINY_TRAINING = {
    "steps": 2, "batch_size": 2, "warmup_steps": 0, "held_out_images": 2, "held_out_every": 2, "calibration_images": 4,
    "ladder": (5, 26), "lambdas": {5: 1.0, 26: 1.0},
}  # fmt: skip
TINY_EVALUATION = EvaluateSettings(baselines=(), replicates=20)


def capped(whole: Callable[..., Any], **limits: Any) -> Callable[..., Any]:
    """Return a maker whose options are replaced by these."""
    return lambda *args, **given: whole(*args, **{**given, **limits})


def small_python() -> ExitStack:
    """Let Python blocks train and evaluate on few images for few steps, whatever they say."""
    stack = ExitStack()
    for module, name, made in (
        (precomp_data, "Scenes", capped(precomp_data.Scenes, count=8)),
        (precomp_sdk, "TrainSettings", capped(TrainSettings, **TINY_TRAINING)),
        (precomp_sdk, "FitTaskSettings", capped(FitTaskSettings, epochs=1)),
        (precomp_sdk, "evaluate", partial(precomp_sdk.evaluate, settings=TINY_EVALUATION)),
        (precomp_sdk.training.trainer, "FitProxySettings", partial(FitProxySettings, steps=2)),
    ):
        stack.enter_context(mock.patch.object(module, name, made))
    return stack


def belongings(folder: Path) -> None:
    """Lay out what the pages under docs/want/ take as given: photographs, and a sender from an earlier run."""
    for split, count in (("train", 6), ("val", 4)):
        (folder / "photographs" / split).mkdir(parents=True)
        for index in range(count):
            write_image(natural_image(96, 128, seed=index), folder / "photographs" / split / f"{index:03}.png")
    Compressor(JPEGCodec(), LightQACNN(width=8, depth=1), ladder=(5, 10, 20, 40)).save(folder / "sender.safetensors")


@dataclass(frozen=True)
class Block:
    """One fenced block, its line, and what the line before it says."""

    line: int
    language: str
    text: str
    marker: str
    told: str


def blocks_of(text: str) -> Iterator[Block]:
    """Yield the blocks of a page that are code."""
    for found in FENCE.finditer(text):
        if found["language"] not in ("text", ""):
            marker, _, told = (found["marker"] or "").partition(": ")
            yield Block(text[: found.start("text")].count("\n"), found["language"], found["text"], marker, told)


class Session:
    """Runs the blocks of one page."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[str, Any] = {"__name__": "page"}
        self.registry = Registry()
        self.modules = set(sys.modules)

    def close(self) -> None:
        """Forget the modules that the page installed: other tests must not find them."""
        for name in set(sys.modules) - self.modules:
            if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(self.folder)):
                del sys.modules[name]

    def run(self, block: Block, where: str) -> None:
        match block.marker or block.language, block.language:
            case "not run", _:
                assert len(block.told) > 10, f"{where}: say why it does not run"
            case "file", _:
                (self.folder / block.told).write_text(block.text, encoding="utf-8")
                if block.language == "toml":
                    assert tomllib.loads(block.text)
            case _, "python":
                assert re.search(r"^\s*assert ", block.text, re.MULTILINE), f"{where}: a block asserts something"
                with small_python() if block.marker == "tiny" else ExitStack():
                    exec(compile("\n" * block.line + block.text, where.partition(":")[0], "exec"), self.names)
            case _, "bash":
                for line in block.text.replace("\\\n", " ").splitlines():
                    for command in filter(None, (part.strip() for part in line.partition("#")[0].split("&&"))):
                        self.command(command, block, where)
            case _:
                pytest.fail(f"{where}: nothing runs a block of {block.language!r}; mark it or call it text")

    def command(self, command: str, block: Block, where: str) -> None:
        words, _, target = command.partition(" > ")
        arguments = shlex.split(words)
        if arguments == ["pip", "install", "."]:
            assert distribution("precomp-sdk")  # as these tests have it
            return
        if arguments[:3] == ["pip", "install", "-e"]:
            self.install(self.folder / arguments[3])
            return
        if arguments[0] == "python":
            runpy.run_path(arguments[1], run_name="__main__")
            return
        if arguments[0] != "precomp":
            subprocess.run(command, shell=True, check=True, cwd=self.folder)
            return
        registry = Registry() if "--plugin" in arguments else self.registry  # a file is read once in a process
        told = CliRunner().invoke(cli.app, arguments[1:] + self.small(arguments, block), obj=registry)
        if block.marker == "fails":
            assert told.exit_code == 1, f"{where}: {told.output}"
            assert block.told in told.stderr, f"{where}: {told.stderr}"
            return
        assert told.exit_code == 0, f"{where}: {command}: {told.output} {told.exception!r}"
        if target:
            (self.folder / target.strip()).write_text(told.stdout, encoding="utf-8")

    def small(self, arguments: list[str], block: Block) -> list[str]:
        """Return the settings that make a training command small."""
        place = next((place for place, word in enumerate(arguments) if word in ("train", "quickstart")), None)
        if block.marker != "tiny" or place is None:
            return []
        drawn = arguments[place] == "quickstart" or "data.task" in self.keys(arguments[place + 1])
        settings = [item for item in TINY if drawn or (not NEEDS_DRAWN.match(item) and not item.startswith("task."))]
        return [word for item in (*settings, *block.told.split()) for word in ("--set", item)]

    @staticmethod
    def keys(file: str) -> str:
        return Path(file).read_text(encoding="utf-8")

    def install(self, folder: Path) -> None:
        """Do what pip does, for this page only; tests/examples lets pip itself do it."""
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
        sys.path.insert(0, str(folder / "src"))
        try:
            for name, module in project["project"]["entry-points"]["precomp_sdk"].items():
                self.registry.register(importlib.import_module(module), name=name)
        finally:
            sys.path.remove(str(folder / "src"))


def test_there_are_pages_and_blocks() -> None:
    found = [block for page in PAGES for block in blocks_of(page.read_text(encoding="utf-8"))]
    assert len(PAGES) >= 30
    assert len([block for block in found if block.language == "python"]) >= 25
    assert len([block for block in found if block.language == "bash"]) >= 12
    assert {block.marker for block in found} <= {"", *MARKERS}
    fences = sum(len(re.findall(r"^```\w", page.read_text(encoding="utf-8"), re.MULTILINE)) for page in PAGES)
    seen = sum(len(FENCE.findall(page.read_text(encoding="utf-8"))) for page in PAGES)
    assert fences == seen  # none that the pattern overlooks


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=name)
        for page in PAGES
        for name in [page.relative_to(ROOT).as_posix()]
        if any(blocks_of(page.read_text(encoding="utf-8")))
    ],
)
def test_every_block_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if page.name in NOT_RUN:
        pytest.skip(NOT_RUN[page.name])
    monkeypatch.chdir(tmp_path)
    session = Session(tmp_path)
    if page.parent.name == "want":
        belongings(tmp_path)
    try:
        for block in blocks_of(page.read_text(encoding="utf-8")):
            session.run(block, f"{page}:{block.line}")
    finally:
        session.close()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("```python\nprint(1)\n```", "asserts something"),
        ("<!-- not run: no -->\n```bash\ntrue\n```", "say why"),
        ("```ruby\nputs 1\n```", "nothing runs a block of 'ruby'"),
        ("```bash\nprecomp nonsense\n```", "precomp nonsense"),
        ("```toml\na = 1\n```", "nothing runs a block of 'toml'"),
    ],
)
def test_a_block_that_nothing_runs_fails(text: str, told: str, tmp_path: Path) -> None:
    (block,) = blocks_of(text)
    with pytest.raises((AssertionError, pytest.fail.Exception), match=told):
        Session(tmp_path).run(block, "page:1")


def test_every_hook_has_a_heading_with_its_arguments() -> None:
    text = (DOCS / "hooks.md").read_text(encoding="utf-8")
    hooks = [name for name in hookspecs.__all__ if name.startswith("precomp_")]
    assert len(hooks) >= 6
    headings = re.findall(r"^## (precomp_\w+)\((.*)\)$", text, re.MULTILINE)
    code = [getattr(hookspecs, name).__code__ for name in hooks]
    assert headings == [
        (name, ", ".join(item.co_varnames[: item.co_argcount]))
        for name, item in sorted(zip(hooks, code, strict=True), key=lambda pair: text.index(f"## {pair[0]}("))
    ]
    assert sorted(name for name, _ in headings) == sorted(hooks)


def test_generated_parts_are_up_to_date() -> None:
    generate = runpy.run_path(str(DOCS / "_tools" / "generate.py"))
    assert len(generate["pages"]()) >= 3
    assert generate["stale"]() == [], "run: python docs/_tools/generate.py"


def test_experiment_files_in_the_repository_are_valid() -> None:
    found = [*(ROOT / "examples").glob("**/*.toml"), *(ROOT / "benchmarks" / "experiments").glob("*.toml")]
    files = [path for path in found if path.name != "pyproject.toml"]
    assert len(files) >= 2
    for path in files:
        load_experiment(path)


REFERENCED = (
    "precomp_sdk", "precomp_sdk.deploy", "precomp_sdk.engines", "precomp_sdk.testing", "precomp_bpg", "precomp_data",
    "precomp_jpeg", "precomp_pillow", "precomp_proxy", "precomp_qacnn", "precomp_refine", "precomp_torchvision",
)  # fmt: skip


@pytest.mark.parametrize("package", REFERENCED)
def test_every_public_class_and_function_is_in_the_reference(package: str) -> None:
    pages = [path.read_text(encoding="utf-8") for path in (DOCS / "reference").glob("*.md")]
    named = {name for text in pages for name in re.findall(r"^::: (\S+)$", text, re.MULTILINE)}
    module = importlib.import_module(package)
    names = getattr(module, "__all__", dir(module))
    public = {name: getattr(module, name) for name in names if not name.startswith("precomp_register_")}
    public = {name: item for name, item in public.items() if inspect.isclass(item) or inspect.isfunction(item)}
    assert public
    for name, item in public.items():
        rooms = item.__module__.split(".")
        known = {f"{'.'.join(rooms[: depth + 1])}.{name}" for depth in range(len(rooms))}
        assert ({f"{package}.{name}", item.__module__} | known) & named, name


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="needs the extra docs")
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert (tmp_path / "site" / "guides" / "codec.html").exists()
    assert not (tmp_path / "site" / "_tools").exists()
    contracts = (tmp_path / "site" / "reference" / "core.html").read_text(encoding="utf-8")
    assert "unique, kebab-case, as typed on the command line" in contracts  # of a comment behind an attribute
    assert "<strong>Shapes and units</strong>" in contracts
    pages = [page.read_text(encoding="utf-8") for page in (tmp_path / "site").glob("**/*.html")]
    assert not [url for page in pages for url in re.findall(r'src="(https?:[^"]*)"', page)]  # nobody else's server
    assert "camera" in (tmp_path / "site" / "search" / "search_index.js").read_text(encoding="utf-8")  # from the disk
    results = (tmp_path / "site" / "results.html").read_text(encoding="utf-8")
    assert "<code>benchmarks/results/codecs.md</code>" in results  # a link that leaves the site
