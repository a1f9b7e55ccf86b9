import pytest
import torchvision


@pytest.fixture
def small_vit(monkeypatch):
    """Make torchvision's ViT builders build something small."""
    build = torchvision.models.vision_transformer._vision_transformer

    def small(*, patch_size, num_layers, num_heads, hidden_dim, mlp_dim, **rest):
        return build(patch_size=patch_size, num_layers=1, num_heads=2, hidden_dim=16, mlp_dim=16, **rest)

    monkeypatch.setattr("torchvision.models.vision_transformer._vision_transformer", small)
