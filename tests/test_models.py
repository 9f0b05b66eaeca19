"""The networks compute what their papers define."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganlab.models import ShapeError, spectral_norm
from ganlab.models.attention import SelfAttention
from ganlab.models.conditional import ConditionalBatchNorm2d, Projection
from ganlab.models.convolutions import Conv2d, ConvTranspose2d, FlatLinear, PooledConv2d, ToImage, feature_maps
from ganlab.models.dcgan import DCGANDiscriminator, DCGANGenerator
from ganlab.models.dcgan_small import DCGANDiscriminator as SmallDiscriminator
from ganlab.models.dcgan_small import DCGANGenerator as SmallGenerator
from ganlab.models.minibatch_std import MinibatchStd
from ganlab.models.mlp import ACTIVATIONS, MLPDiscriminator, MLPGenerator
from ganlab.models.r3gan_small import Block, Down, R3GANDiscriminator, R3GANGenerator, conv
from ganlab.models.resnet import ResNetDiscriminator, ResNetGenerator
from ganlab.models.tutorial_cnn import TutorialDiscriminator, TutorialGenerator

Shape = tuple[int, ...]
SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64), (3, 24, 40), (1, 128, 128)]


def pair(name: str, shape: Shape, num_classes: int = 0) -> tuple[nn.Module, nn.Module]:
    """Return both networks of a model, narrow for speed, with latents of dimension 5."""
    match name:
        case "mlp":
            return MLPGenerator(5, shape, num_classes), MLPDiscriminator(shape, num_classes)
        case "dcgan_small":
            return SmallGenerator(5, shape, num_classes, width=2), SmallDiscriminator(shape, num_classes, width=4)
        case "dcgan":
            return DCGANGenerator(5, shape, num_classes, width=4), DCGANDiscriminator(shape, num_classes, width=4)
        case "resnet":
            return (
                ResNetGenerator(5, shape, num_classes, width=4, max_width=8),
                ResNetDiscriminator(shape, num_classes, width=4, max_width=8, spectral_norm=False),
            )
    return (
        R3GANGenerator(5, shape, num_classes, width=8, max_width=16, group_size=4),
        R3GANDiscriminator(shape, num_classes, width=8, max_width=16, group_size=4),
    )


MODELS = ["mlp", "dcgan_small", "dcgan", "resnet", "r3gan_small"]
DISCRIMINATORS: dict[str, Callable[[], nn.Module]] = {
    "tutorial_cnn": lambda: TutorialDiscriminator((1, 28, 28)),
    "mlp": lambda: MLPDiscriminator((1, 28, 28), 3),
    "mlp, spectral norm": lambda: MLPDiscriminator((1, 28, 28), 0, activation="silu", spectral_norm=True),
    "dcgan_small": lambda: SmallDiscriminator((1, 28, 28), 3, 4, 8),
    "dcgan_small, all": lambda: SmallDiscriminator((1, 28, 28), 0, 4, 8, spectral_norm=True, minibatch_std=True),
    "dcgan": lambda: DCGANDiscriminator((1, 28, 28), 0, 4),
    "dcgan, all": lambda: DCGANDiscriminator((1, 28, 28), 3, 8, spectral_norm=True, attention=14, minibatch_std=True),
    "resnet": lambda: ResNetDiscriminator((1, 28, 28), 0, 4, 8, spectral_norm=False),
    "resnet, all": lambda: ResNetDiscriminator((1, 28, 28), 3, 8, 8, attention=14, minibatch_std=True),
    "r3gan_small": lambda: R3GANDiscriminator((1, 28, 28), 0, 8, 16, group_size=4),
    "r3gan_small, all": lambda: R3GANDiscriminator((1, 28, 28), 3, 8, 16, 2, group_size=4, minibatch_std=True),
}


@pytest.fixture(autouse=True)
def same_weights() -> None:
    torch.manual_seed(0)


def moved(network: nn.Module) -> nn.Module:
    """Add noise to all parameters, so that none keeps an initial value of 0."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    spectral_norm.update(network, 15)
    return network


def examples_for(network: nn.Module) -> tuple[Tensor, list[Tensor]]:
    """Return four examples, and their labels if the network is conditional."""
    is_conditional = isinstance(getattr(network, "projection", None), Projection)
    return torch.randn(4, 1, 28, 28), [torch.tensor([0, 1, 2, 0])] * is_conditional


# Each network --------------------------------------------------------------------------------------------------


def test_tutorial_networks_equal_those_of_the_tutorial() -> None:
    generator, discriminator = TutorialGenerator(32, (1, 28, 28)), TutorialDiscriminator((1, 28, 28))
    z = torch.randn(3, 32)

    def their_generator(x: Tensor) -> Tensor:
        x = F.relu(generator.project(x)).view(-1, 14, 14, 32).permute(0, 3, 1, 2)  # its rows in another order
        up, last = generator.convt1, generator.conv1
        x = F.relu(F.conv_transpose2d(x, up.weight, up.bias, stride=2, padding=1, output_padding=1))
        return torch.sigmoid(F.conv2d(x, last.weight, last.bias, padding=1))

    def their_discriminator(x: Tensor) -> Tensor:
        d = discriminator
        x = F.max_pool2d(F.relu(F.conv2d(x, d.conv1.weight, d.conv1.bias, padding=1)), (2, 2))
        x = F.max_pool2d(F.relu(F.conv2d(x, d.conv2.weight, d.conv2.bias, padding=1)), (2, 2))
        x = F.relu(F.linear(x.reshape(-1, 16 * 7 * 7), d.fc1.weight, d.fc1.bias))
        return torch.sigmoid(d.fc3(F.relu(d.fc2(x))))

    fake = their_generator(z)  # in [0, 1], as the tutorial's images are
    torch.testing.assert_close((generator(z) + 1) / 2, fake)
    torch.testing.assert_close(discriminator(fake * 2 - 1).sigmoid(), their_discriminator(fake).squeeze(1))


def test_tutorial_mlps_have_the_tutorial_s_sizes() -> None:
    sizes = [tuple(p.shape) for p in MLPGenerator(2, (2,), 0).parameters()]
    assert sizes == [(8, 2), (8,), (8, 8), (8,), (2, 8), (2,)]
    assert [tuple(p.shape) for p in MLPDiscriminator((2,), 0).parameters()] == [*sizes[:4], (1, 8), (1,)]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_activation_of_an_mlp_is_the_one_it_is_called_after(activation: str) -> None:
    x = torch.randn(9)
    expected = F.leaky_relu(x, 0.2) if activation == "leaky_relu" else getattr(F, activation)(x)
    torch.testing.assert_close(MLPDiscriminator((2,), 0, activation=activation).hidden[1](x), expected)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("model", MODELS)
def test_networks_fit_images_of_many_sizes(model: str, shape: Shape) -> None:
    if model == "dcgan" and min(shape[1:]) < 28:
        with pytest.raises(ShapeError, match=r"dcgan is for images .* 28 to 128"):
            pair(model, shape)
        return
    generator, discriminator = pair(model, shape)
    fake = generator(torch.randn(2, 5))
    assert fake.shape == (2, *shape)
    if model != "r3gan_small":  # it ends in a linear layer, as the paper's
        assert fake.abs().max() <= 1
    assert discriminator(fake).shape == (2,)


@pytest.mark.parametrize("shape", [(2,), (1, 7, 7), (1, 4, 4), (1, 27, 28)])
@pytest.mark.parametrize("model", MODELS[1:])
def test_shapes_that_do_not_fit_are_named(model: str, shape: Shape) -> None:
    with pytest.raises(ShapeError, match=rf"{model} is for images \[C, H, W\]"):
        pair(model, shape)


@pytest.mark.parametrize("model", ["resnet", "r3gan_small"])
def test_a_side_that_ends_above_7_does_not_fit(model: str) -> None:
    with pytest.raises(ShapeError, match="4 to 7 pixels"):
        pair(model, (1, 36, 36))


def test_dcgan_has_the_channels_of_its_authors() -> None:
    generator, discriminator = DCGANGenerator(100, (3, 64, 64), 0), DCGANDiscriminator((3, 64, 64), 0)
    up = [m.in_channels for m in generator.modules() if isinstance(m, nn.ConvTranspose2d)]
    down = [m.out_channels for m in discriminator.modules() if isinstance(m, nn.Conv2d)]
    assert up == [512, 256, 128, 64]
    assert down == [64, 128, 256, 512]


def test_resnet_at_32_pixels_is_the_paper_s_for_cifar() -> None:
    generator = ResNetGenerator(128, (3, 32, 32), 0, 256, 256)
    discriminator = ResNetDiscriminator((3, 32, 32), 0, 128, 128)
    assert generator.start == (256, 4, 4)
    assert len(generator.blocks) == 3
    sizes = []
    x = torch.randn(1, 3, 32, 32)
    for block in discriminator.blocks:
        x = block(x)
        sizes.append(tuple(x.shape[1:]))
    assert sizes == [(128, 16, 16), (128, 8, 8), (128, 8, 8), (128, 8, 8)]


def test_resnet_block_s_shortcut_is_the_paper_s_order() -> None:
    """A 1x1 convolution commutes with upsampling and with pooling."""
    x = torch.randn(2, 3, 8, 8)
    one = nn.Conv2d(3, 5, 1)
    torch.testing.assert_close(F.interpolate(one(x), scale_factor=2.0), one(F.interpolate(x, scale_factor=2.0)))
    torch.testing.assert_close(one(F.avg_pool2d(x, 2)), F.avg_pool2d(one(x), 2))


def test_r3gan_keeps_the_variance_and_its_blocks_start_as_the_identity() -> None:
    x = torch.randn(4, 32, 16, 16)
    assert torch.equal(Block(32, 16, 3)(x), x)
    assert conv(32, 64, 1)(x).var().item() == pytest.approx(1, rel=0.2)
    block = Block(32, 16, num_blocks=1)
    y = F.leaky_relu(block.expand(x), 0.2)
    assert y.square().mean().item() == pytest.approx(1, rel=0.2)
    assert F.leaky_relu(block.mix(y), 0.2).square()[:, :, 1:-1, 1:-1].mean().item() == pytest.approx(1, rel=0.3)
    sixteenth = Block(32, 16, num_blocks=16).expand.weight.std() / block.expand.weight.std()
    assert sixteenth.item() == pytest.approx(0.5, rel=0.1)  # 16^(-1/4)

    generator, discriminator = R3GANGenerator(64, (3, 32, 32), 0), R3GANDiscriminator((3, 32, 32), 0)
    assert 0.3 < generator.layers[0](generator.basis(torch.randn(64, 64))).var().item() < 3
    assert 0.02 < generator(torch.randn(64, 64)).var().item() < 3  # interpolation reduces the variance
    assert 0.005 < discriminator(torch.randn(64, 3, 32, 32)).var().item() < 3


def test_r3gan_halves_by_bilinear_interpolation() -> None:
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(Down(3, 3)(x), F.interpolate(x, scale_factor=0.5, mode="bilinear"))


def test_r3gan_groups_have_to_fit() -> None:
    with pytest.raises(ValueError, match="group_size=16: must divide twice the channels at every size, 24"):
        R3GANDiscriminator((1, 28, 28), 0, width=12)


# Its parts -----------------------------------------------------------------------------------------------------


class PoolingAfterConv2d(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(super().forward(x), 2)


class LinearAfterFlatten(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(1))


@pytest.mark.parametrize(
    ("layer", "reference"),
    [
        (ToImage(4, 1), nn.Conv2d(4, 1, 3, padding=1)),
        (ToImage(4, 3), nn.Conv2d(4, 3, 3, padding=1)),
        (PooledConv2d(4, 3, 3, padding=1), PoolingAfterConv2d(4, 3, 3, padding=1)),
        (FlatLinear(4 * 5 * 7, 3), LinearAfterFlatten(4 * 5 * 7, 3)),
        (Conv2d(4, 3, 3, stride=2, padding=1), nn.Conv2d(4, 3, 3, stride=2, padding=1)),
        (Conv2d(4, 6, 3, groups=2, bias=False), nn.Conv2d(4, 6, 3, groups=2, bias=False)),
        (
            ConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=1),
            nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=1),
        ),
    ],
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_layers_and_their_gradients_are_those_of_pytorch(
    layer: nn.Module, reference: nn.Module, layout: torch.memory_format
) -> None:
    layer, reference = layer.double(), reference.double()
    reference.load_state_dict(layer.state_dict())
    x = torch.randn(2, 4, 5, 7, dtype=torch.float64).to(memory_format=layout).requires_grad_()
    expected = reference(x)
    torch.testing.assert_close(layer(x), expected)
    weights = torch.randn_like(expected)
    mine = torch.autograd.grad((layer(x) * weights).sum(), [x, *layer.parameters()])
    theirs = torch.autograd.grad((expected * weights).sum(), [x, *reference.parameters()])
    torch.testing.assert_close(mine, theirs)


def test_the_gradient_of_feature_maps_keeps_their_layout() -> None:
    """A gradient in another layout makes the derivative of the activation before the layer slow."""
    for layer in (FlatLinear(4 * 5 * 7, 3), ToImage(4, 1), PooledConv2d(4, 3, 3)):
        x = torch.randn(2, 4, 5, 7).to(memory_format=torch.channels_last).requires_grad_()
        (gradient,) = torch.autograd.grad(layer(x).sum(), x)
        assert gradient.is_contiguous(memory_format=torch.channels_last), layer


def test_feature_maps_equal_a_view_but_are_channels_last() -> None:
    x = torch.randn(2, 4 * 5 * 7)
    maps = feature_maps(x, (4, 5, 7))
    assert torch.equal(maps, x.view(2, 4, 5, 7))
    assert maps.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("layer", [nn.Linear(5, 7), nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(3, 4, 3), Projection(4, 6)])
def test_spectral_norm_makes_the_largest_singular_value_1(layer: nn.Module) -> None:
    network = nn.Sequential(copy.deepcopy(layer))
    rng = torch.Generator().manual_seed(0)  # the layers were created at collection, from no fixed seed
    for parameter in network.parameters():
        nn.init.normal_(parameter, generator=rng)
    spectral_norm.normalise(network)

    def sigma() -> float:
        weight = network[0].weight
        rows = weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else weight
        return torch.linalg.matrix_norm(rows.flatten(1), ord=2).item()

    assert sigma() == pytest.approx(1, rel=0.1)
    for _ in range(200):
        spectral_norm.update(network)
    assert sigma() == pytest.approx(1, rel=1e-4)
    with torch.no_grad():
        network[0].parametrizations.weight.original.mul_(3)
    assert sigma() == pytest.approx(1, rel=1e-4)  # sigma is a function of the weight, not a stored number


def test_spectral_norm_has_the_gradient_of_the_paper_and_a_pure_forward_pass() -> None:
    network = nn.Sequential(nn.Linear(5, 7, bias=False))
    spectral_norm.normalise(network)
    before = copy.deepcopy(network.state_dict())
    x = torch.randn(3, 5)
    network(x).square().sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    norm, weight = network[0].parametrizations.weight[0], network[0].parametrizations.weight.original
    normalised = network[0].weight.detach()
    upstream = 2 * (x @ normalised.T).T @ x  #                       dL / dW_SN
    sigma = norm.left @ weight.detach() @ norm.right
    lagrange = (upstream * normalised).sum()  #                       lambda of eq. 12
    torch.testing.assert_close(weight.grad, (upstream - lagrange * torch.outer(norm.left, norm.right)) / sigma)


def test_attention_starts_as_the_identity_and_is_the_paper_s_sum() -> None:
    layer = SelfAttention(16)
    x = torch.randn(2, 16, 3, 5)
    assert torch.equal(layer(x), x)
    with torch.no_grad():
        layer.gamma.fill_(0.7)
    f, g, h, v = (m.weight.flatten(1) for m in (layer.f, layer.g, layer.h, layer.v))
    expected = torch.empty_like(x)
    for b in range(2):
        columns = x[b].flatten(1).T  # [N, C]
        outputs = []
        for j in columns:
            weights = torch.stack([(f @ i) @ (g @ j) for i in columns]).softmax(0)
            outputs.append(0.7 * v @ sum(w * (h @ i) for w, i in zip(weights, columns, strict=True)) + j)
        expected[b] = torch.stack(outputs).T.view(16, 3, 5)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize(("batch", "group"), [(8, 4), (4, 4), (6, 6), (1, 1)])
def test_minibatch_std_equals_numpy(batch: int, group: int) -> None:
    x = torch.randn(batch, 3, 2, 5)
    y = MinibatchStd()(x)
    assert torch.equal(y[:, :3], x)
    for start in range(0, batch, group):
        expected = np.std(x[start : start + group].numpy(), axis=0).mean()
        np.testing.assert_allclose(y[start : start + group, 3].numpy(), expected, atol=2e-4)


def test_minibatch_std_of_equal_examples_is_0_and_has_finite_gradients() -> None:
    x = torch.randn(1, 3, 4, 4).expand(4, -1, -1, -1).clone().requires_grad_()
    y = MinibatchStd()(x)[:, 3]
    assert y.max() < 2e-4
    (gradient,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum() + gradient.sum(), x)
    assert gradient.isfinite().all()
    assert second.isfinite().all()


def test_conditional_batch_norm_is_a_batch_norm_per_class_with_statistics_of_all() -> None:
    layer = moved(ConditionalBatchNorm2d(3, 2))
    x, label = torch.randn(6, 3, 4, 4), torch.tensor([0, 1, 1, 0, 1, 0])
    y = layer(x, label)
    for k in range(2):
        one = nn.BatchNorm2d(3)
        one.load_state_dict({"weight": layer.gain[k], "bias": layer.bias[k]}, strict=False)
        torch.testing.assert_close(y[label == k], one(x)[label == k])


def test_projection_is_equation_3() -> None:
    for name in MODELS:
        torch.manual_seed(0)
        _, discriminator = pair(name, (1, 28, 28), num_classes=3)
        x, label = torch.randn(4, 1, 28, 28), torch.tensor([2, 0, 1, 2])
        phi = {}
        hook = discriminator.projection.register_forward_hook(lambda _m, inputs, _o, phi=phi: phi.update(x=inputs[1]))
        logit = discriminator(x, label)
        hook.remove()
        psi = next(m for m in reversed(list(discriminator.modules())) if isinstance(m, nn.Linear))
        embedding = discriminator.projection.weight[label]
        expected = [psi(p).squeeze() + v @ p for p, v in zip(phi["x"], embedding, strict=True)]
        torch.testing.assert_close(logit, torch.stack(expected))


# Conditional, differentiable, stored ---------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_labels_change_samples_and_logits(model: str) -> None:
    generator, discriminator = (moved(network).eval() for network in pair(model, (1, 28, 28), num_classes=3))
    z, x = torch.randn(1, 5).expand(3, -1), torch.randn(1, 1, 28, 28).expand(3, -1, -1, -1)
    label = torch.arange(3)
    for output in (generator(z, label), discriminator(x, label)):
        assert len(torch.unique(output.detach().round(decimals=6), dim=0)) == 3
    with pytest.raises(ValueError, match="needs the label"):
        generator(z)
    with pytest.raises(ValueError, match="needs the label"):
        discriminator(x)


@pytest.mark.parametrize("model", MODELS)
def test_without_classes_a_label_is_ignored(model: str) -> None:
    generator, discriminator = pair(model, (1, 28, 28))
    z, x, label = torch.randn(2, 5), torch.randn(2, 1, 28, 28), torch.tensor([0, 1])
    assert torch.equal(generator(z), generator(z, label))
    assert torch.equal(discriminator(x), discriminator(x, label))
    assert not [name for name, _ in generator.named_parameters() if "label" in name]


@pytest.mark.parametrize("kind", DISCRIMINATORS)
def test_the_gradient_of_a_discriminator_is_differentiable(kind: str) -> None:
    """Inside `torch.func`, as gradient penalties need it."""
    network = moved(DISCRIMINATORS[kind]()).to(memory_format=torch.channels_last)
    x, label = examples_for(network)
    gradient = torch.func.grad(lambda inputs: network(inputs, *label).sum())(x)
    gradient.square().sum().backward()
    assert gradient.isfinite().all()
    for name, parameter in network.named_parameters():
        if "bias" not in name:  # a ReLU network is piecewise linear in x, and its biases do not change the slope
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().sum() > 0, name


def test_the_gradient_through_spectral_norm_and_attention_is_that_of_differences() -> None:
    network = moved(DCGANDiscriminator((1, 28, 28), 2, 8, True, attention=14, minibatch_std=True)).double()
    x, label = torch.randn(4, 1, 28, 28, dtype=torch.float64), torch.tensor([0, 1, 1, 0])
    weight = network.blocks[0].parametrizations.weight.original

    def slope() -> Tensor:
        return torch.func.grad(lambda inputs: network(inputs, label).sum())(x).square().sum()

    slope().backward()
    with torch.no_grad():
        weight[3, 0, 1, 2] += 1e-6
        above = slope()
        weight[3, 0, 1, 2] -= 2e-6
        below = slope()
    torch.testing.assert_close(weight.grad[3, 0, 1, 2], (above - below) / 2e-6, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("generator", [DCGANGenerator, ResNetGenerator])
def test_generators_with_attention_and_spectral_norm_are_kept(generator: type[nn.Module]) -> None:
    def made() -> nn.Module:
        return generator(5, (1, 28, 28), 2, width=8, spectral_norm=True, attention=14).eval()

    network = moved(made())
    z, label = torch.randn(3, 5), torch.tensor([0, 1, 0])
    expected = network(z, label)
    again = made()
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(z, label), expected)
    assert torch.equal(copy.deepcopy(network)(z, label), expected)
    torch.testing.assert_close(network.to(memory_format=torch.channels_last)(z, label), expected)
    assert sum(isinstance(module, SelfAttention) for module in network.modules()) == 1


@pytest.mark.parametrize("kind", DISCRIMINATORS)
def test_discriminators_are_kept(kind: str) -> None:
    network, again = moved(DISCRIMINATORS[kind]()), DISCRIMINATORS[kind]()
    again.load_state_dict(network.state_dict())
    x, label = examples_for(network)
    expected = network(x, *label)
    assert torch.equal(again(x, *label), expected)
    assert torch.equal(copy.deepcopy(network)(x, *label), expected)


@pytest.mark.parametrize("network", [DCGANDiscriminator, ResNetDiscriminator])
def test_attention_at_a_missing_size_is_refused_listing_the_sizes(network: type[nn.Module]) -> None:
    with pytest.raises(ShapeError, match="attention=9: must be the height of a feature map: 14, 7"):
        network((1, 28, 28), 0, width=4, attention=9)


def test_a_population_of_discriminators_can_be_vectorised() -> None:
    networks = [DCGANDiscriminator((1, 28, 28), 2, 4, True, attention=14) for _ in range(3)]
    parameters, buffers = torch.func.stack_module_state(networks)
    x, label = torch.randn(2, 1, 28, 28), torch.tensor([0, 1])

    def logit(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(networks[0], (parameters, buffers), (x, label))

    together = torch.func.vmap(logit)(parameters, buffers)
    torch.testing.assert_close(together, torch.stack([network(x, label) for network in networks]))
