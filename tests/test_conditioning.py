"""Networks conditional on classes, their samples, and initial weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import make_run
from torch import nn

from ganlab import load_run
from ganlab.errors import ConfigError
from ganlab.models import Model, inits, spectral_norm
from ganlab.models.conditioning import Concatenation
from ganlab.models.dcgan import DCGANDiscriminator, DCGANGenerator
from ganlab.models.mlp import MLPDiscriminator, MLPGenerator
from ganlab.models.r3gan_small import R3GANGenerator


def test_concatenation_is_a_longer_latent_and_more_channels() -> None:
    model = Model(latent_dim=3, generator=MLPGenerator, discriminator=MLPDiscriminator)
    condition = Concatenation(embedding_dim=2)
    generator, discriminator = condition.generator(model, (1, 4, 4), 5), condition.discriminator(model, (1, 4, 4), 5)
    z, label = torch.randn(6, 3), torch.arange(6) % 5
    vector = generator.embedding.weight[label]
    torch.testing.assert_close(generator(z, label), generator.network(torch.cat([z, vector], 1)))
    x = torch.randn(6, 1, 4, 4)
    planes = torch.stack([discriminator.embedding.weight[y][:, None, None].expand(2, 4, 4) for y in label])
    torch.testing.assert_close(discriminator(x, label), discriminator.network(torch.cat([x, planes], 1)))


@pytest.mark.parametrize("init", [inits.NormalInit(), inits.OrthogonalInit(), inits.XavierInit(), inits.KaimingInit()])
def test_gains_by_class_and_learned_maps_are_left_as_they_were_built(init: inits.Init) -> None:
    networks = DCGANGenerator(8, (1, 28, 28), 3, width=4), R3GANGenerator(8, (1, 8, 8), 3, width=16)
    for network in networks:
        before = {name: value.clone() for name, value in network.named_parameters()}
        init(network)
        kept = [name for name, value in network.named_parameters() if torch.equal(value, before[name])]
        assert any(name.endswith(("gain", "maps")) for name in kept)
        changed = set(before) - set(kept)
        assert changed
        assert not [name for name in changed if name.endswith(("gain", "bias", "maps"))]


def test_a_spectrally_normalised_layer_is_initialised() -> None:
    network = DCGANDiscriminator((1, 28, 28), 0, width=4, spectral_norm=True)
    inits.NormalInit(std=3.0)(network)
    spectral_norm.update(network, num_iterations=30)
    layer = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    assert layer.parametrizations.weight.original.std().item() > 2
    assert torch.linalg.matrix_norm(layer.weight.flatten(1), ord=2).item() == pytest.approx(1, abs=0.02)


@pytest.fixture(scope="module")
def conditional_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on one distant point per class, which a few steps suffice to learn."""
    folder = tmp_path_factory.mktemp("conditional") / "run"
    return make_run(
        folder,
        *("dataset=ring8", "dataset.num_examples=1000", "model=mlp", "condition=concatenation"),
        *("model.generator.width=32", "model.generator.activation=leaky_relu", "optimizer.discriminator.lr=0.001"),
        *("loss=relativistic", "penalty=r1_r2", "penalty.r1.weight=0.02", "trainer.batch_size=100"),
        *("trainer.steps=1500", "trainer.ema_half_life=2000"),
        *("trainer.log_every=null", "trainer.sample_every=null", "trainer.checkpoint_every=null"),
    )


def test_samples_of_a_label_belong_to_its_class(conditional_run: Path) -> None:
    trained = load_run(conditional_run)
    assert trained.classes == tuple("01234567")
    turn = 2 * torch.pi * torch.arange(8) / 8
    modes = torch.stack([turn.cos(), turn.sin()], 1)
    right = [
        (torch.cdist(trained.sample(200, label=str(k)), modes).argmin(1) == k).float().mean().item() for k in range(8)
    ]
    assert sum(right) / 8 > 0.8
    torch.testing.assert_close(trained.sample(9, label=3), trained.sample(9, label="3"))


def test_without_a_label_all_classes_are_sampled_and_the_first_do_not_depend_on_how_many(
    conditional_run: Path,
) -> None:
    trained = load_run(conditional_run)
    torch.testing.assert_close(trained.sample(70)[:10], trained.sample(10))


def test_an_unknown_label_is_refused_listing_the_known_ones(conditional_run: Path) -> None:
    with pytest.raises(ConfigError, match="label=8: must be one of 0, 1, 2"):
        load_run(conditional_run).sample(1, label=8)


@pytest.mark.parametrize(
    ("init", "std"),
    [
        (inits.NormalInit(std=0.02), 0.02),
        (inits.XavierInit(), (2 / (200 + 300)) ** 0.5),
        (inits.KaimingInit(), (2 / (1 + 0.2**2) / 300) ** 0.5),
        (inits.OrthogonalInit(), 300**-0.5),
    ],
    ids=lambda value: type(value).__name__,
)
def test_initial_weights_have_their_paper_s_spread_and_biases_are_left_alone(init: inits.Init, std: float) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(300, 200)
    bias = layer.bias.detach().clone()
    init(layer)
    assert layer.weight.std().item() == pytest.approx(std, rel=0.05)
    torch.testing.assert_close(layer.bias, bias)
    if isinstance(init, inits.OrthogonalInit):
        torch.testing.assert_close(layer.weight @ layer.weight.T, torch.eye(200), atol=1e-5, rtol=0)
