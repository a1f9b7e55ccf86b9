"""The first lines a user of PyTorch writes, one test per row; the files named in `ELSEWHERE` hold the rest."""

import re
import subprocess
import sys
from pathlib import Path
from typing import get_overloads

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import precomp_sdk
from precomp_sdk import (
    ClassifierTask,
    CodecLayer,
    Compressor,
    EvaluateSettings,
    Label,
    Registry,
    TaskDataset,
    Trainer,
    TrainSettings,
    evaluate,
)
from precomp_sdk.image_io import write_image
from precomp_sdk.testing import FakeCodec, FakeDataset, FakePreprocessor, FakeProxy, FakeTask, natural_image

TESTS = Path(__file__).resolve().parent
ELSEWHERE = {  # what a row promises, and the test that proves it
    "help fits a page": "core/test_hooks.py::test_help_on_the_package_fits_a_page",
    "a classifier": "network_tasks/test_network_tasks.py::test_a_classifier_passes_every_check",
    "a segmenter": "network_tasks/test_network_tasks.py::test_a_segmenter_passes_every_check",
    "a detector": "network_tasks/test_network_tasks.py::test_a_detector_passes_every_check",
    "torch data sets, columns by name": "core/test_row_dataset.py::test_a_torch_data_set_and_columns_by_name",
    "Hugging Face data sets": "interop/test_walk.py::test_the_job_runs",
    "the codec's own proxy": "training/test_default_proxy.py::test_the_codecs_own_proxy_is_taken",
    "a proxy fitted first": (
        "training/test_default_proxy.py::test_one_that_needs_fitting_is_fitted_first_on_what_is_trained_on"
    ),
    "registry.add": "core/test_registry_add.py::test_classes_of_every_contract_are_added_at_once",
    "precomp --plugin FILE": "core/test_registry_add.py::test_the_command_line_takes_a_file",
    "an import path in an experiment": "run/test_import_paths.py::test_the_commands_know_them",
    "what is read imports nothing": "run/test_import_paths.py::test_a_weights_file_imports_nothing",
    "a table, here and in a notebook": (
        "evaluation/test_views.py::test_it_prints_as_its_table_and_shows_it_in_a_notebook"
    ),
    "result.plot()": "evaluation/test_views.py::test_it_draws_itself",
    "result.to_pandas()": "evaluation/test_views.py::test_a_data_frame_has_a_row_per_point",
    "text and retrieval": "examples/test_examples.py::test_it_runs",
    "one line of what it is": "core/test_described.py::test_what_is_assembled_of_components_says_of_which",
    "progress on a terminal": "observers/test_listening.py::test_progress_is_shown_where_a_terminal_watches",
    "one bar in a notebook": "observers/test_listening.py::test_a_notebook_shows_one_bar_for_all_stages",
    "observer=None": "observers/test_listening.py::test_silence_is_silent",
    "libraries of others": "interop/test_networks.py::test_the_block_of_the_library_runs",
    "--version": "cli/test_global_options.py::test_the_version_is_the_distributions",
    "-h": "cli/test_global_options.py::test_help_has_a_short_name",
    "python -m precomp_sdk": "cli/test_global_options.py::test_the_package_runs_as_a_module",
    "-q, -v": "cli/test_global_options.py::test_quiet_leaves_notices_and_verbose_tells_every_event",
    "completion": "cli/test_global_options.py::test_shells_can_complete",
    "--json": "cli/test_global_options.py::test_every_command_that_measures_prints_json",
    "standard input and output": "deploy/test_bulk_command.py::test_standard_input_and_output",
    "precomp info": "cli/test_info.py::test_info_tells_options_with_defaults_and_meanings",
    "precomp info, fitted or not": "cli/test_info.py::test_info_says_whether_a_proxy_is_fitted",
    "precomp plugins --kind": "cli/test_info.py::test_plugins_of_one_kind",
    "a result is said once": "cli/test_experiments.py::test_the_quickstart_does_the_whole_job",
    "precomp init asks": "cli/test_init.py::test_it_asks_a_person_for_what_it_is_not_told",
    "precomp init writes what runs": "cli/test_init.py::test_the_file_trains_and_evaluates",
    "precomp estimate": "run/test_estimate.py::test_it_counts_what_a_run_does",
    "one page, of itself": "evaluation/test_page.py::test_the_report_writes_the_page",
    "a page below 5 MB": "evaluation/test_gallery.py::test_a_page_holds_no_more_images_than_it_may",
    "a gallery": (
        "evaluation/test_gallery.py::test_an_evaluation_keeps_a_gallery_of_the_first_preprocessor_and_the_page_shows_it"
    ),
    "the page of transfer": "evaluation/test_page.py::test_a_transfer_matrix_has_its_page",
    "the page of evaluate-proxy": "evaluation/test_page.py::test_a_proxy_report_has_its_page",
    "precomp report": "evaluation/test_page.py::test_runs_are_laid_side_by_side",
    "whom it hurts: images, classes": "evaluation/test_gallery.py::test_harm_names_the_worst_images_and_classes",
    "whom it hurts: sizes": "evaluation/test_gallery.py::test_boxes_are_told_by_the_size_of_objects",
    "Weights & Biases": "interop/test_trackers.py::test_weights_and_biases_has_it_all_in_one_run",
    "MLflow": "interop/test_trackers.py::test_mlflow_has_it_all_in_one_run",
    "the paper's files": "examples/test_paper.py::test_two_steps_and_an_evaluation",
    "make gpu-check": "training/test_gpu.py::test_the_check_passes_on_a_cpu_and_sees_a_wrong_proxy",
    "wheel and sdist": "core/test_distribution.py::test_wheel_and_sdist_hold_the_same_packages_whole",
    "a run's folder": "deploy/test_compressor.py::test_a_training_runs_own_file_is_read",
    "shipped weights": "deploy/test_shipped_senders.py::test_general_chooses_for_every_codec",
    "from_pretrained": "deploy/test_hub.py::test_a_sender_comes_from_the_hubs_cache",
    "push_to_hub": "deploy/test_hub.py::test_what_is_pushed_comes_back",
    "a search from the disk": "docs/test_pages.py::test_the_site_builds_without_a_warning",
    "every block of the docs": "docs/test_pages.py::test_every_block_of_a_page_runs",
    "three notebooks": "docs/test_notebooks.py::test_it_runs",
}


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


@pytest.mark.parametrize("row", list(ELSEWHERE))
def test_the_other_rows_have_their_tests(row: str) -> None:
    file, _, name = ELSEWHERE[row].partition("::")
    assert re.search(rf"^def {name}\(", (TESTS / file).read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.slow  # a process that imports PyTorch
def test_names_and_submodules_are_there_at_first_use() -> None:
    code = "import sys, precomp_sdk as p; assert 'torch' not in sys.modules; p.training, p.Trainer, p.__version__"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert {"Trainer", "TrainSettings", "evaluate", "Compressor", "training"} <= set(dir(precomp_sdk))


def test_a_network_is_a_task_and_its_weights_are_a_file_of_any_kind(tmp_path: Path) -> None:
    task = ClassifierTask(network(), mean=(0.5,) * 3, std=(0.5,) * 3)
    task.save(tmp_path / "mine.safetensors")
    torch.save(task.network.state_dict(), tmp_path / "plain.pth")
    save_file(task.network.state_dict(), tmp_path / "plain.safetensors")
    image = torch.rand(1, 3, 32, 32)
    for name in ("mine.safetensors", "plain.pth", "plain.safetensors"):
        other = ClassifierTask(network(), mean=(0.5,) * 3, std=(0.5,) * 3)
        other.load(tmp_path / name)
        assert torch.equal(other.losses(image, [Label(1)]), task.losses(image, [Label(1)]))


def pictures(folder: Path) -> dict[str, object]:
    tensor = natural_image(24, 32)
    array = tensor.permute(1, 2, 0).numpy()
    write_image(tensor, folder / "a.png")
    return {"tensor": tensor, "array": array, "PIL": Image.fromarray(array), "path": folder / "a.png"}


def test_images_may_be_anything(tmp_path: Path) -> None:
    given = pictures(tmp_path)
    sender = Compressor(FakeCodec(), FakePreprocessor())
    assert len({sender.compress(image, 20) for image in given.values()}) == 1  # type: ignore[arg-type]
    rows = [{"image": image, "label": place % 2} for place, image in enumerate(given.values())]
    dataset = TaskDataset.of(rows, lambda row: (row["image"], row["label"]))
    samples = [dataset[place] for place in range(len(dataset))]
    assert all(torch.equal(sample.image, samples[0].image) for sample in samples)
    assert [sample.target.index for sample in samples if isinstance(sample.target, Label)] == [0, 1, 0, 1]


def test_a_loop_of_ones_own() -> None:
    codec = FakeCodec()
    batch = torch.rand(2, 3, 16, 16, requires_grad=True)
    images, bits = CodecLayer(codec, FakeProxy(codec))(batch, [10, 40])
    (images.mean() + bits.mean()).backward()
    assert batch.grad is not None
    assert batch.grad.abs().sum() > 0


def test_train_evaluate_and_look(capsys: pytest.CaptureFixture[str]) -> None:
    codec, task, preprocessor = FakeCodec(), FakeTask(), FakePreprocessor()
    settings = TrainSettings(steps=2, batch_size=4, ladder=(5, 30), lambdas={5: 2.0, 30: 2.0}, calibration_images=4)
    trainer = Trainer(
        codec=codec, proxy=FakeProxy(codec), preprocessor=preprocessor, task=task, settings=settings, observer=None
    )
    trainer.run(FakeDataset())
    told = EvaluateSettings(ladder=(5, 30), baselines=(), replicates=5)
    result = evaluate(codec, task, FakeDataset(), preprocessors=preprocessor, settings=told, observer=None)
    assert str(result).count("\n") > 2
    assert "<td" in result._repr_html_()
    assert result.to_dict()["curves"]
    assert capsys.readouterr() == ("", "")  # observer=None is silence


def test_objects_say_what_they_are() -> None:
    assert repr(FakeCodec(level=3)) == "FakeCodec(level=3)"
    assert repr(Registry().create("codec", "jpeg", subsampling="4:4:4")).startswith("JPEGCodec(subsampling='4:4:4'")
    kinds = [overload.__annotations__["return"] for overload in get_overloads(Registry.create)]
    assert [getattr(kind, "__name__", kind) for kind in kinds[:4]] == [
        "Codec",
        "Preprocessor",
        "TaskModel",
        "TaskDataset",
    ]
