"""The complete plugin and a skeleton of every kind, installed into a fresh environment, offline."""

import json
import os
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest

from precomp_sdk import Registry
from precomp_sdk.image_io import read_image, write_image
from precomp_sdk.scaffold import KINDS, new_plugin
from precomp_sdk.testing import natural_image

TEMPLATE = Path(__file__).resolve().parents[2] / "examples" / "plugin-template"

SESSION = """
import json, sys
from precomp_sdk import cli
for arguments in json.loads(sys.argv[1]):
    print("$", *arguments, flush=True)
    code = cli.app(arguments, standalone_mode=False)
    assert not code, code
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment that sees the packages of this one, with the plugins installed into it."""
    folder = tmp_path_factory.mktemp("plugins")
    for kind in KINDS:
        new_plugin(f"acme-{kind}", kind, folder)
    venv.create(folder / "env", with_pip=False, symlinks=True)
    (own,) = (folder / "env").glob("lib/python*/site-packages")
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    lines = [f"import site; site.addsitedir({path!r})\n" for path in sorted(paths)]
    (own / "parent.pth").write_text("".join(lines), encoding="utf-8")
    sources = [str(TEMPLATE), *(str(folder / f"acme-{kind}") for kind in KINDS)]
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", *sources]
    run(folder, *install)
    return folder


def run(folder: Path, *arguments: str) -> str:
    """Run the environment's Python; fail with what it said."""
    command = [str(folder / "env" / "bin" / "python"), *arguments]
    quiet = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "160"}
    done = subprocess.run(command, cwd=folder, env={**os.environ, **quiet}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_they_are_not_installed_here() -> None:
    assert not {"haar", "acme-codec"} & set(Registry().codecs)


@pytest.mark.slow
def test_their_own_tests_pass_as_written(environment: Path) -> None:
    options = ("-q", "-rA", "--import-mode=importlib", "-p", "no:cacheprovider", "-c", os.devnull)
    folders = [str(TEMPLATE / "tests"), *(f"acme-{kind}/tests" for kind in KINDS)]
    told = run(environment, "-m", "pytest", *options, "--rootdir", str(environment), *folders)
    for name in ("test_plugin", *(f"test_acme_{kind}" for kind in KINDS)):
        ran = [line for line in told.splitlines() if line.startswith("PASSED") and f"{name}.py" in line]
        assert len(ran) >= 3, f"{name}: {told}"


@pytest.mark.slow
def test_a_whole_session_with_the_complete_plugin(environment: Path) -> None:
    write_image(natural_image(40, 56), environment / "image.png")
    session = [
        ["plugins", "--json"],
        ["check", "haar"],
        ["train", str(TEMPLATE / "experiment.toml"), *TINY],
        ["evaluate", "runs/haar"],
        ["export", "runs/haar", "--output", "sender.safetensors"],
        ["compress", "sender.safetensors", "image.png", "--quality", "15", "--output", "image.haar"],
        ["decompress", "sender.safetensors", "image.haar", "--output", "received.png"],
    ]
    told = run(environment, "-c", SESSION, json.dumps(session))
    listed, _, rest = told.partition("\n")[2].partition("\n$ check haar\n")
    found = {(item["kind"], item["name"]): item for item in json.loads(listed)["components"]}
    assert found["codec", "haar"]["package"] == found["task", "texture-net"]["package"] == "precomp-haar"
    assert {f"acme-{kind}" for kind in KINDS} <= {name for _, name in found}
    assert all(plugin["state"] == "ok" for plugin in json.loads(listed)["plugins"])
    assert "codec 'haar': 16 of 16 checks passed" in rest
    assert "BD-rate" in rest
    assert read_image(environment / "received.png").shape == (3, 40, 56)
    assert (environment / "image.haar").read_bytes().startswith(b"HAAR")


TINY = [
    argument
    for setting in (
        "task.fit.epochs=1", "data.train.count=24", "data.val.count=8", "proxy.fit.steps=2", "proxy.fit.batch_size=2",
        "train.steps=2", "train.batch_size=2", "train.ladder=[11,15]", "train.held_out_images=2",
        "train.calibration_images=8", "train.lambdas={11=1.0,15=1.0}", "evaluate.ladder=[11,15]",
        "evaluate.baselines=[]", "evaluate.replicates=20", "preprocessor.width=8", "preprocessor.depth=1",
        "output.tensorboard=false",
    )
    for argument in ("--set", setting)
]  # fmt: skip
