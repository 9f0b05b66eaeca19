"""The networks against what they are said to compute."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganlab.models import ShapeError
from ganlab.models.dcgan_small import DCGANDiscriminator, DCGANGenerator
from ganlab.models.mlp import MLPDiscriminator, MLPGenerator
from ganlab.models.to_image import ToImage
from ganlab.models.tutorial_cnn import TutorialDiscriminator, TutorialGenerator


@pytest.mark.parametrize("channels", [1, 3])
def test_to_image_is_a_convolution_and_so_are_its_gradients(channels: int) -> None:
    layer = ToImage(4, channels).double()
    reference = nn.Conv2d(4, channels, 3, padding=1).double()
    reference.load_state_dict(layer.state_dict())
    x = torch.randn(2, 4, 5, 7, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(layer(x), reference(x))
    weights = torch.randn(2, channels, 5, 7, dtype=torch.float64)
    mine = torch.autograd.grad((layer(x) * weights).sum(), [x, *layer.parameters()])
    theirs = torch.autograd.grad((reference(x) * weights).sum(), [x, *reference.parameters()])
    torch.testing.assert_close(mine, theirs)


def test_tutorial_networks_are_the_tutorial_s() -> None:
    generator, discriminator = TutorialGenerator(32, (1, 28, 28)), TutorialDiscriminator((1, 28, 28))
    z = torch.randn(3, 32)

    def their_generator(x: Tensor) -> Tensor:
        x = F.relu(generator.fc1(x)).view(-1, 32, 14, 14)
        weight, bias = generator.conv1.weight, generator.conv1.bias
        return torch.sigmoid(F.conv2d(F.relu(generator.convt1(x)), weight, bias, padding=1))

    def their_discriminator(x: Tensor) -> Tensor:
        d = discriminator
        x = F.max_pool2d(F.relu(d.conv1(x)), (2, 2))
        x = F.max_pool2d(F.relu(d.conv2(x)), (2, 2)).view(-1, 16 * 7 * 7)
        return torch.sigmoid(d.fc3(F.relu(d.fc2(F.relu(d.fc1(x))))))

    fake = their_generator(z)  # in [0, 1], as the tutorial's images are
    torch.testing.assert_close((generator(z) + 1) / 2, fake)
    torch.testing.assert_close(discriminator(fake * 2 - 1).sigmoid(), their_discriminator(fake).squeeze(1))


def test_tutorial_mlps_have_the_tutorial_s_sizes() -> None:
    sizes = [tuple(p.shape) for p in MLPGenerator(2, (2,)).parameters()]
    assert sizes == [(8, 2), (8,), (8, 8), (8,), (2, 8), (2,)]
    assert [tuple(p.shape) for p in MLPDiscriminator((2,)).parameters()] == [*sizes[:4], (1, 8), (1,)]


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 8, 8), (3, 24, 40), (1, 64, 64)])
def test_dcgan_small_fits_images_of_many_sizes(shape: tuple[int, ...]) -> None:
    fake = DCGANGenerator(5, shape)(torch.randn(2, 5))
    assert fake.shape == (2, *shape)
    assert fake.abs().max() <= 1
    assert DCGANDiscriminator(shape)(fake).shape == (2,)


@pytest.mark.parametrize("shape", [(2,), (1, 7, 7), (1, 4, 4)])
def test_shapes_that_do_not_fit_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="is for images"):
        DCGANGenerator(5, shape)
