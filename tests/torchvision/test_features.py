import pytest
import torch

from precomp_sdk import OptionError
from precomp_torchvision import Classifier
from precomp_torchvision._features import shapes_of


def make(architecture, **options):
    torch.manual_seed(0)
    return Classifier(architecture=architecture, num_classes=4, **options).eval()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "layers"),
    [
        ("squeezenet1_1", ("features.1", "features.4", "features.7", "features")),
        ("resnet18", ("relu", "layer1", "layer2", "layer3", "layer4")),
        ("mobilenet_v2", ("features.1", "features.3", "features.6", "features.13", "features")),
        ("efficientnet_b0", ("features.1", "features.2", "features.3", "features.5", "features")),
        ("convnext_tiny", ("features.1", "features.3", "features.5", "features")),
        ("swin_t", ("permute",)),  # the only maps with channels first
    ],
)
def test_default_is_the_last_stage_of_each_resolution(architecture, layers):
    task = make(architecture)
    images = torch.rand(2, 3, 64, 96, requires_grad=True)
    features = task.features(images)
    assert task.feature_layers == layers
    assert all(item.ndim == 4 and len(item) == 2 for item in features)
    heights = [item.shape[2] for item in features]
    assert heights == sorted(set(heights), reverse=True)
    for item in features:
        (gradient,) = torch.autograd.grad(item.square().mean(), images, retain_graph=True)
        assert gradient.abs().sum() > 0


def test_maps_of_a_network_of_one_size():
    task = make("maxvit_t")
    assert task.feature_layers == ("stem", "blocks.0", "blocks.1", "blocks.2", "blocks.3")


def test_chosen_layers_in_the_given_order():
    task = make("resnet18", feature_layers=["layer3", "layer1.0.conv1"])
    deep, early = task.features(torch.rand(1, 3, 64, 64))
    assert deep.shape == (1, 256, 4, 4)
    assert early.shape == (1, 64, 16, 16)


def test_a_map_is_what_its_layer_gave_even_if_the_next_works_in_place():
    task = make("resnet18", feature_layers=["bn1", "relu"])
    before, after = task.features(torch.rand(1, 3, 64, 64))
    assert before.min() < 0
    assert torch.equal(before.relu(), after)


def test_features_of_small_images_and_after_resizing():
    assert make("resnet18").features(torch.rand(1, 3, 1, 1))[-1].shape == (1, 512, 2, 2)
    assert make("resnet18", input_size=128).features(torch.rand(1, 3, 64, 64))[-1].shape == (1, 512, 4, 4)


def test_finding_layers_leaves_the_network_as_it_is():
    task = make("resnet18").train()
    task.network.layer1.eval()
    state = {key: value.clone() for key, value in task.network.state_dict().items()}
    random_state = torch.get_rng_state()
    assert len(task.feature_layers) == 5
    assert torch.equal(torch.get_rng_state(), random_state)
    assert task.network.training
    assert not task.network.layer1.training
    assert all(torch.equal(value, state[key]) for key, value in task.network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in task.network.modules())


def test_no_hook_is_left_behind():
    task = make("squeezenet1_1")
    task.features(torch.rand(1, 3, 64, 64))
    with pytest.raises(RuntimeError):  # images of a type the network cannot take
        task.features(torch.rand(1, 3, 64, 64, dtype=torch.float64))
    assert not any(module._forward_hooks for module in task.network.modules())


def test_a_network_of_tokens_has_no_feature_maps(small_vit):
    task = make("vit_b_32", input_size=64)
    with pytest.raises(OptionError, match="features of VisionTransformer: expected a network with feature maps"):
        task.features(torch.rand(1, 3, 64, 64))


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["layer9"], "got 'layer9'. Did you mean 'layer"),
        (["fc"], "names of layers that give feature maps; got 'fc'"),
        (["avgpool"], "got 'avgpool'"),
        ([], "a list of layer names"),
        ("relu", "a list of layer names; got 'relu'"),
    ],
)
def test_wrong_layers(layers, message):
    with pytest.raises(OptionError, match=message):
        make("resnet18", feature_layers=layers)


class OutOfOrder(torch.nn.Module):
    """Registers its layers in another order than it runs them, and runs one of them twice."""

    def __init__(self) -> None:
        super().__init__()
        self.last = torch.nn.Conv2d(4, 5, 1)
        self.first = torch.nn.Conv2d(3, 4, 1)
        self.twice = torch.nn.Conv2d(4, 4, 3, stride=2, padding=1)
        self.fc = torch.nn.Linear(5, 2)

    def forward(self, images):
        features = self.twice(self.first(images))
        return self.fc(self.last(self.twice(features)).mean((2, 3)))


def test_shapes_stand_in_the_order_in_which_layers_finish():
    """A layer that runs again finishes later: its last shape counts, at its last place."""
    shapes = shapes_of(OutOfOrder(), 32, 32)
    assert list(shapes.items()) == [("first", (1, 4, 32, 32)), ("twice", (1, 4, 8, 8)), ("last", (1, 5, 8, 8))]


class RunsAgainLater(OutOfOrder):
    def forward(self, images):
        features = self.twice(self.twice(self.first(images)))
        self.first(images)
        return self.fc(self.last(features).mean((2, 3)))


def test_a_layer_that_runs_again_moves_to_the_end():
    assert list(shapes_of(RunsAgainLater(), 32, 32)) == ["twice", "first", "last"]
