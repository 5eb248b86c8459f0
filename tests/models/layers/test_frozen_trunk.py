"""The trunk below trained layers: its stored output gives the features and gradients of the whole network."""

import pytest
import torch
from torch import Tensor, nn

from src.common.errors import UserError
from src.config.schema import BackboneConfig
from src.models.backbones.base import Backbone
from src.models.layers.frozen_trunk import Trunk, find_trunk, pack_trunk, unpack_trunk

BLOCKS = r"^blocks\.\d+\.\d+$|^bn1$"


def make(name: str, trainable: int, levels: str = "") -> Backbone:
    return Backbone(BackboneConfig(name=name, weights="none", trainable=trainable, levels=levels)).eval()


def error(values: Tensor, expected: Tensor) -> float:
    """Relative to the spread of the expected values."""
    return float((values - expected).abs().mean() / expected.std())


@pytest.mark.parametrize(
    ("name", "trainable", "levels", "last"),
    [
        ("mobilenetv3_small_050", 1, "", "blocks.4"),
        ("mobilenetv3_small_050", 2, BLOCKS, "blocks.3"),
        ("tf_efficientnet_lite0", 2, BLOCKS, "blocks.4"),
        ("resnet10t", 1, "", "layer3"),
        ("regnetx_002", 1, "", "s3"),
        ("convnext_atto", 1, "", "stages.2"),
        ("densenet121", 1, "", "features.denseblock4"),
    ],
)
def test_stored_output_gives_the_features_of_the_whole_network(
    name: str, trainable: int, levels: str, last: str
) -> None:
    backbone, pixels = make(name, trainable, levels), torch.rand(2, 3, 96, 96)
    stored = backbone.trunk(pixels)
    assert backbone.frozen_trunk.modules[-1] == last
    assert stored.dtype == torch.int16
    with torch.no_grad():
        features = backbone(pixels)
        assert error(backbone.finish_grid(stored), features.grid) < 0.02
        assert error(backbone.finish_levels(stored), features.levels) < 0.02
        inside = backbone.frozen_trunk.statistics
        torch.testing.assert_close(backbone.finish_levels(stored)[:, :inside], features.levels[:, :inside])


def test_gradients_reach_the_trained_layers_alone_and_equal_those_from_pixels() -> None:
    backbone, pixels = make("mobilenetv3_small_050", 1), torch.rand(4, 3, 64, 64)
    stored, gradients = backbone.trunk(pixels), []
    for grid in (backbone.finish_grid(stored), backbone.grid(pixels)):
        backbone.zero_grad()
        (grid**2).mean().backward()
        gradients.append({name: p.grad.clone() for name, p in backbone.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert all(name.startswith(("network.blocks.5.", "network.conv_head.")) for name in gradients[0])
    assert max(error(gradient, gradients[1][name]) for name, gradient in gradients[0].items()) < 0.1


def test_training_of_the_layers_above_leaves_the_fingerprint_of_the_trunk() -> None:
    backbone = make("resnet10t", 1)
    trunk, levels = backbone.fingerprint("trunk"), backbone.fingerprint("levels")
    with torch.no_grad():
        backbone.network.layer4[0].conv1.weight.add_(1)
    assert backbone.fingerprint("trunk") == trunk
    assert backbone.fingerprint("levels") != levels
    with torch.no_grad():
        backbone.network.layer3[0].conv1.weight.add_(1)
    assert backbone.fingerprint("trunk") != trunk


@pytest.mark.parametrize(("name", "trainable"), [("resnet10t", -1), ("vit_tiny_patch16_224", 2)])
def test_a_network_that_cannot_be_cut_is_refused(name: str, trainable: int) -> None:
    with pytest.raises(UserError, match=rf"data.cache: the layers of {name} below .* set it false, or"):
        make(name, trainable).frozen_trunk  # noqa: B018 - it is computed when it is read


class Residual(nn.Module):
    """A first module whose output is added to the image, so that no chain starts with it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 3, 1).requires_grad_(False), nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x + self.first(x))


def test_a_chain_ends_before_a_module_that_reads_something_else() -> None:
    image, network = torch.rand(1, 3, 4, 4), Residual()
    calls, chain = find_trunk(network, lambda: network(image), image)
    assert chain == ["first"]  # the features with it passed over differ, so that a backbone refuses it
    assert [call.name for call in calls] == ["first", "last"]


def test_a_row_holds_the_output_in_bf16_and_the_statistics_in_fp32() -> None:
    output, statistics = torch.rand(3, 5, 4, 4), torch.rand(3, 7)
    values, stored = unpack_trunk(pack_trunk(output, statistics), Trunk([], [], channels=5, statistics=7))
    assert torch.equal(values, output.bfloat16().float())
    assert torch.equal(stored, statistics)
