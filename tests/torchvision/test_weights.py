from urllib.error import URLError

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from precomp_sdk import CheckpointError, OptionError
from precomp_torchvision import Classifier


def squeezenet(num_classes=3):
    torch.manual_seed(1)
    return torchvision.models.squeezenet1_1(num_classes=num_classes)


def load(path, **options):
    return Classifier(**{"architecture": "squeezenet1_1", "weights": path, **options}).eval()


@pytest.fixture
def image():
    return torch.rand(1, 3, 64, 64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_of_any_float_type(tmp_path, dtype, suffix):
    network = squeezenet()
    state = {key: value.to(dtype) for key, value in network.state_dict().items()}
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    task = load(path)
    assert task.num_classes == 3  # as many as the file has
    for key, value in task.network.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, state[key].float())


def test_round_trip_through_the_network_of_a_task(tmp_path, image):
    torch.manual_seed(0)
    first = Classifier(architecture="resnet18", num_classes=4).eval()
    path = tmp_path / "mine.pt"
    torch.save(first.network.state_dict(), path)
    second = Classifier(architecture="resnet18", weights=str(path)).eval()
    assert torch.equal(first.predict(image)[0], second.predict(image)[0])


def test_old_files_without_batch_counters(tmp_path):
    state = torchvision.models.resnet18(num_classes=2).state_dict()
    path = tmp_path / "old.pth"
    torch.save({key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}, path)
    assert torch.equal(Classifier(weights=path).network.conv1.weight, state["conv1.weight"])


def test_old_names_of_densenet(tmp_path, monkeypatch):
    build = torchvision.models.densenet._densenet
    monkeypatch.setattr(  # fewer layers of the same names
        "torchvision.models.densenet._densenet",
        lambda growth, blocks, *rest, **more: build(8, (2, 2, 2, 2), *rest, **more),
    )
    network = torchvision.models.densenet121(num_classes=2)
    state = network.state_dict()
    old = {
        key.replace("norm1.", "norm.1.")
        .replace("conv1.", "conv.1.")
        .replace("norm2.", "norm.2.")
        .replace("conv2.", "conv.2.")
        if "denselayer" in key
        else key: value
        for key, value in state.items()
    }
    assert old.keys() != state.keys()
    path = tmp_path / "old.pth"
    torch.save(old, path)
    task = Classifier(architecture="densenet121", weights=path)
    assert all(torch.equal(value, state[key]) for key, value in task.network.state_dict().items())


def test_auxiliary_heads_in_a_file_are_left_out(tmp_path):
    network = torchvision.models.googlenet(num_classes=2, aux_logits=True, init_weights=False)
    path = tmp_path / "googlenet.pth"
    torch.save(network.state_dict(), path)
    task = Classifier(architecture="googlenet", weights=path).train()
    assert task.predict(torch.rand(2, 3, 64, 64))[0].shape == (2,)
    assert task.network.transform_input


def test_a_new_head_keeps_everything_else(tmp_path, image):
    network = squeezenet(6)
    path = tmp_path / "weights.pth"
    torch.save(network.state_dict(), path)
    task = load(path, num_classes=2, new_head=True)
    assert task.num_classes == 2
    assert task.predict(image)[0].shape == (2,)
    assert torch.equal(task.network.features[0].weight, network.features[0].weight)
    path = tmp_path / "resnet.pth"
    torch.save(torchvision.models.resnet18(num_classes=6).state_dict(), path)
    assert Classifier(weights=path, num_classes=2, new_head=True).eval().predict(image)[0].shape == (2,)


def test_another_number_of_classes_needs_a_new_head(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(squeezenet(6).state_dict(), path)
    assert load(path, num_classes=6).num_classes == 6
    with pytest.raises(OptionError, match=r"option 'num_classes': expected 6, as the weights have; got 2.*new_head"):
        load(path, num_classes=2)


def test_another_networks_file(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(squeezenet().state_dict(), path)
    with pytest.raises(CheckpointError) as caught:
        load(path, architecture="resnet18")
    message = str(caught.value)
    assert f"{path}, loaded into 'resnet18'" in message
    assert "without conv1.weight, bn1.weight" in message
    assert "with unknown features.0.weight" in message
    assert "more" in message


def test_wrong_shapes_and_types_are_named(tmp_path):
    state = squeezenet().state_dict()
    state["features.0.weight"] = torch.zeros(64, 3, 5, 5)
    state["features.3.squeeze.bias"] = torch.zeros(16, dtype=torch.int8)
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    with pytest.raises(CheckpointError) as caught:
        load(path)
    message = str(caught.value)
    assert "features.0.weight float32 (64, 3, 5, 5) instead of float32 (64, 3, 3, 3)" in message
    assert "features.3.squeeze.bias int8 (16,) instead of float32 (16,)" in message
    assert "without" not in message


@pytest.mark.parametrize(
    ("name", "content", "got"),
    [
        ("missing.pth", None, "No such file or directory"),
        ("rubbish.pth", b"rubbish", "[A-Z][a-zA-Z]+Error: "),
        ("empty.pth", b"", "EOFError"),
        ("rubbish.safetensors", b"rubbish", "SafetensorError"),
        ("missing.safetensors", None, "No such file or directory"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, content, got):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name}: expected a file of weights; got {got}"):
        load(path)


def test_a_truncated_file(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(squeezenet().state_dict(), path)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(CheckpointError, match="expected a file of weights"):
        load(path)


def test_a_file_that_would_run_code_is_refused(tmp_path):
    path = tmp_path / "module.pth"
    torch.save(squeezenet(), path)  # a whole module, not its state
    with pytest.raises(CheckpointError, match="UnpicklingError"):
        load(path)


@pytest.mark.parametrize(
    ("content", "got"),
    [({"epoch": 1, "model": {}}, r"dict with keys \['epoch', 'model'\]"), ([1], "list"), (torch.zeros(2), "Tensor")],
)
def test_files_of_something_else(tmp_path, content, got):
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=f"a state dict: names to tensors; got {got}"):
        load(path)


class Download:
    """Stands in for torchvision's download."""

    def __init__(self, state):
        self.state, self.urls = state, []

    def __call__(self, url, *args, **kwargs):
        self.urls.append(url)
        if isinstance(self.state, Exception):
            raise self.state
        return self.state


@pytest.fixture
def download(monkeypatch):
    def install(state):
        fake = Download(state)
        monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fake)
        return fake

    return install


@pytest.mark.parametrize("weights", ["DEFAULT", "IMAGENET1K_V1", "SqueezeNet1_1_Weights.IMAGENET1K_V1", "member"])
def test_published_weights(download, weights, image):
    network = squeezenet(1000)
    fake = download(network.state_dict())
    enum = torchvision.models.SqueezeNet1_1_Weights
    task = load(enum.DEFAULT if weights == "member" else weights)
    assert fake.urls == [enum.IMAGENET1K_V1.url]
    assert torch.equal(task.network.features[0].weight, network.features[0].weight)
    assert task.num_classes == 1000
    assert task.class_names[0] == "tench"
    part = load(weights if weights != "member" else enum.DEFAULT, classes=[217, 0])
    assert part.class_names == ("English springer", "tench")
    assert torch.equal(part.predict(image)[0], task.predict(image)[0][[217, 0]])


def test_published_weights_with_a_new_head(download):
    download(squeezenet(1000).state_dict())
    task = load("DEFAULT", num_classes=7, new_head=True)
    assert (task.num_classes, task.class_names) == (7, ())
    with pytest.raises(OptionError, match="expected 1000, as the weights have; got 7"):
        load("DEFAULT", num_classes=7)


def test_published_weights_bring_their_normalization(download):
    task = Classifier(architecture="squeezenet1_0", num_classes=2)
    assert task._mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    torch.manual_seed(0)
    network = torchvision.models.googlenet(num_classes=1000, aux_logits=True, init_weights=False)
    download(network.state_dict())
    task = Classifier(architecture="googlenet", weights="DEFAULT").eval()
    images = torch.rand(1, 3, 64, 64)
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    network.transform_input = True  # as torchvision sets it for these weights
    assert torch.allclose(task.predict(images)[0], network.eval()((images - mean) / std)[0], atol=1e-5)


def test_published_weights_with_auxiliary_heads(download):
    network = torchvision.models.inception_v3(num_classes=1000, aux_logits=True, init_weights=False)
    download(network.state_dict())
    task = Classifier(architecture="inception_v3", weights="DEFAULT", classes=[1, 2]).train()
    assert task.predict(torch.rand(2, 3, 80, 80))[0].shape == (2,)


@pytest.mark.parametrize("error", [URLError("no route"), RuntimeError("invalid hash value")])
def test_a_failed_download(download, error):
    download(error)
    with pytest.raises(
        CheckpointError, match=r"a download from https://.*(no route|invalid hash value).*give its path"
    ):
        load("DEFAULT")


def test_unknown_weights_are_answered_with_the_nearest():
    with pytest.raises(OptionError, match=r"got 'IMAGENET1K_V2'\. Did you mean 'IMAGENET1K_V1'"):
        load("IMAGENET1K_V2")
    with pytest.raises(OptionError, match=r"got 'ResNet18_Weights\.IMAGENET1K_V1'"):
        load(torchvision.models.ResNet18_Weights.DEFAULT)


def test_published_weights_of_one_size(monkeypatch, small_vit):
    """ViT's larger weights need larger images; the network says so itself."""
    built = torchvision.models.vit_b_32(image_size=64, num_classes=1000)
    monkeypatch.setattr("precomp_torchvision._networks.load_enum", lambda architecture, weights: built)
    task = Classifier(architecture="vit_b_32", weights="DEFAULT").eval()
    assert task.predict(torch.rand(1, 3, 30, 30))[0].shape == (1000,)
    with pytest.raises(OptionError, match="expected 64, as the weights need; got 96"):
        Classifier(architecture="vit_b_32", weights="DEFAULT", input_size=96)
