import pytest
import torch
import torchvision
from torchvision.models import detection

from precomp_sdk import CheckpointError, OptionError, TargetError
from precomp_torchvision import Classifier, Detector
from precomp_torchvision._classes import without_background

LITE = "ssdlite320_mobilenet_v3_large"  # the smallest detection network of torchvision
COCO = [
    name
    for name in detection.SSDLite320_MobileNet_V3_Large_Weights.DEFAULT.meta["categories"]
    if name not in ("__background__", "N/A")
]


def on_squeezenet(architecture, **options):
    return {"architecture": architecture, "backbone": "squeezenet1_1", "pyramid_channels": 64, **options}


FAMILIES = [on_squeezenet("fcos"), on_squeezenet("retinanet"), on_squeezenet("fasterrcnn"), {"architecture": LITE}]


def save(task, path):
    torch.save(task.network.state_dict(), path)
    return path


def make(**options):
    torch.manual_seed(0)
    return Detector(**options).eval()


@pytest.mark.slow
@pytest.mark.parametrize("options", FAMILIES)
def test_a_file_brings_its_number_of_classes(tmp_path, options):
    first = make(**options, num_classes=4)
    path = save(first, tmp_path / "mine.pth")
    torch.manual_seed(1)
    second = Detector(**options, weights=path).eval()
    assert second.num_classes == 4
    image = torch.rand(1, 3, 64, 64)
    (found,), (again,) = first.predict(image), second.predict(image)
    assert torch.equal(found.scores, again.scores)
    assert Detector(**options, weights=path, num_classes=4).num_classes == 4
    with pytest.raises(OptionError, match=r"option 'num_classes': expected 4, as the weights have; got 2.*new_head"):
        Detector(**options, weights=path, num_classes=2)


@pytest.mark.slow
@pytest.mark.parametrize("options", FAMILIES)
def test_a_new_head_keeps_everything_else(tmp_path, options):
    first = make(**options, num_classes=4)
    path = save(first, tmp_path / "mine.pth")
    second = make(**options, weights=path, num_classes=2, new_head=True)
    assert (second.num_classes, second.class_names) == (2, ())
    old, new = first.network.state_dict(), second.network.state_dict()
    other = [key for key in old if old[key].shape != new[key].shape]
    assert other
    assert all("box_predictor" in key or "classification_head" in key for key in other)
    assert all(torch.equal(new[key], old[key]) for key in old if "head" not in key and "predictor" not in key)
    if "backbone" in options and "rcnn" not in options["architecture"]:  # the towers stay, the logits are new
        same = [key for key in old if "classification_head.conv" in key]
        assert same
        assert all(torch.equal(new[key], old[key]) for key in same)
    second.losses(torch.rand(1, 3, 64, 64), second.pseudo_labels(torch.rand(1, 3, 64, 64)))


def test_a_backbone_brings_a_classifiers_weights(tmp_path):
    torch.manual_seed(3)
    classifier = torchvision.models.squeezenet1_1(num_classes=7)
    path = tmp_path / "classifier.pth"
    torch.save({key: value.half() for key, value in classifier.state_dict().items()}, path)
    task = make(**on_squeezenet("fcos", num_classes=2, backbone_weights=path))
    expected = classifier.features[3].squeeze.weight
    found = task.network.get_parameter("backbone.stages.body.features.3.squeeze.weight")
    assert torch.equal(found, expected.half().float())
    assert not any("classifier" in key for key in task.network.state_dict())
    with pytest.raises(CheckpointError, match=r"loaded into 'resnet18': .*without conv1.weight"):
        make(architecture="fcos", backbone="resnet18", num_classes=2, backbone_weights=path)


def test_masks_and_keypoints_in_a_file_are_left_out(tmp_path):
    torch.manual_seed(0)
    network = detection.maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=3)
    path = tmp_path / "mask.pth"
    torch.save(network.state_dict(), path)
    task = Detector(architecture="maskrcnn_resnet50_fpn", weights=path, min_size=64).eval()
    assert task.num_classes == 2
    assert not any("mask" in key for key in task.network.state_dict())


def test_another_networks_file(tmp_path):
    path = save(make(**on_squeezenet("fcos", num_classes=2)), tmp_path / "fcos.pth")
    with pytest.raises(CheckpointError) as caught:
        Detector(**on_squeezenet("retinanet", weights=path))
    message = str(caught.value)
    assert f"{path}, loaded into 'retinanet'" in message
    assert "a file without head.classification_head.conv.0.0.weight" in message
    assert "a file with unknown head.classification_head.conv.0.weight" in message
    assert "head.regression_head.bbox_reg.weight float32 (4, 64, 3, 3) instead of float32 (36, 64, 3, 3)" in message


@pytest.mark.parametrize("damage", ["missing", "shape"])
def test_a_file_that_does_not_fit_names_keys_and_shapes(tmp_path, damage):
    state = make(**on_squeezenet("fasterrcnn", num_classes=2)).network.state_dict()
    name = "roi_heads.box_predictor.cls_score.weight"
    if damage == "missing":
        del state[name]
        message = "a file without roi_heads.box_predictor.cls_score.weight"
    else:
        state[name] = torch.zeros(3, 7)
        message = r"with roi_heads.box_predictor.cls_score.weight float32 \(3, 7\) instead of float32 \(3, 256\)"
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match=message):
        Detector(**on_squeezenet("fasterrcnn", weights=tmp_path / "weights.pth"))


@pytest.fixture(scope="module")
def published():
    torch.manual_seed(0)
    return detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None).state_dict()


@pytest.fixture
def download(monkeypatch, published):
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda url, *args, **rest: published)


def test_published_weights_have_cocos_80_classes(download):
    task = make(architecture=LITE, weights="DEFAULT")
    assert task.num_classes == 80
    assert task.class_names == tuple(COCO)
    assert (task.class_names[0], task.class_names[79]) == ("person", "toothbrush")
    task.check_dataset(COCO)
    swapped = [COCO[1], COCO[0], *COCO[2:]]
    with pytest.raises(TargetError, match=r"class 0 to be 'person'; got 'bicycle' of .*Set classes"):
        task.check_dataset(swapped)
    with pytest.raises(TargetError, match="a data set of 80 classes; got 2"):
        task.check_dataset(["person", "car"])


def test_published_classes_are_mapped_by_name(download):
    image = torch.rand(1, 3, 64, 64)
    whole = make(architecture=LITE, weights="DEFAULT", score_threshold=0.0)
    part = make(architecture=LITE, weights="DEFAULT", score_threshold=0.0, classes=["toothbrush", "person"])
    assert part.class_names == ("toothbrush", "person")
    part.check_dataset(["toothbrush", "person"])
    (every,), (some,) = whole.predict(image), part.predict(image)
    assert every.labels.max() <= 79
    for ours, theirs in ((0, 79), (1, 0)):
        assert torch.equal(some.boxes[some.labels == ours], every.boxes[every.labels == theirs])
    raw = whole.network([image[0]])[0]
    assert torch.equal(every.boxes[every.labels == 79], raw["boxes"][raw["labels"] == 90])  # of torchvision's 91
    with pytest.raises(OptionError, match=r"option 'classes': .*got 'tooth brush'\. Did you mean 'toothbrush'"):
        make(architecture=LITE, weights="DEFAULT", classes=["tooth brush"])


def test_numbers_that_stand_for_nothing_are_no_classes():
    assert without_background(["__background__", "cat", "N/A", "dog"], 4) == {1: "cat", 3: "dog"}
    assert without_background([], 3) == {1: "", 2: ""}


def test_published_weights_with_a_new_head(download):
    task = make(architecture=LITE, weights="DEFAULT", num_classes=3, new_head=True)
    assert (task.num_classes, task.class_names) == (3, ())
    task.losses(torch.rand(1, 3, 64, 64), task.pseudo_labels(torch.rand(1, 3, 64, 64)))


def test_batch_normalization_of_pretrained_networks_is_frozen_by_default(download):
    task = make(architecture=LITE, weights="DEFAULT").train()
    layers = [layer for layer in task.network.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    assert layers
    assert not any(layer.training for layer in layers)
    task = make(architecture=LITE, weights="DEFAULT", freeze_batch_norm=False).train()
    assert all(layer.training for layer in task.network.modules() if isinstance(layer, torch.nn.BatchNorm2d))


def test_a_failed_download(monkeypatch):
    def fail(*args, **rest):
        raise OSError("no route")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    with pytest.raises(CheckpointError, match=r"a download from https://.*no route"):
        Detector(architecture=LITE, weights="DEFAULT")


def test_unknown_weights_are_answered_with_the_nearest():
    with pytest.raises(OptionError, match=r"got 'COCO_V2'\. Did you mean 'COCO_V1'"):
        Detector(architecture=LITE, weights="COCO_V2")


def test_real_backbone_weights(shared_data):
    """SqueezeNet's ImageNet weights serve a detector as they serve the classifier."""
    path = shared_data / "weights" / "squeezenet1_1_torchvision_fp16.pth"
    task = make(**on_squeezenet("fcos", num_classes=3, backbone_weights=path))
    classifier = Classifier(architecture="squeezenet1_1", weights=path)
    name = "features.12.expand3x3.weight"
    assert torch.equal(
        task.network.get_parameter(f"backbone.stages.body.{name}"), classifier.network.get_parameter(name)
    )
