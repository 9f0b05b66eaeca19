"""Time of a training step with R1 or R1 and R2, when the penalty shares the discriminator's forward pass or not.

    OMP_NUM_THREADS=1 python tests/benchmarks/penalty_forward.py [rounds]
    python tests/benchmarks/penalty_forward.py check

Three ways to compute || dD(x)/dx ||^2:
    separate   torch.func.grad in the penalty, which runs the discriminator again; as in `ganlab.penalties`
    autograd   x requires a gradient, and torch.autograd.grad(create_graph=True) differentiates the logits of the loss
    func       torch.func.vjp gives the logits of the loss and the gradient from one forward pass
They take turns of equal numbers of steps on random data. Printed are, for each setup, the median milliseconds of a
whole step (both players, with their optimizers) and the median ratio of `separate` to each way, above 1 if that way is
faster.
`check` compares losses and gradients in float64, then compiles and vectorises the discriminator's step.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ganlab.build import build_game, build_players, instantiate
from ganlab.config import run_config
from ganlab.data.batches import Batches
from ganlab.data.dataset import Description
from ganlab.data.units import AffineUnits
from ganlab.game import DiscriminatorLoss, Game, StepContext, discriminator_stats
from ganlab.optimizers import Optimizers
from ganlab.penalties import R1, R2, Discriminator
from ganlab.rng import StepRNG
from ganlab.schedules import Schedule
from ganlab.training.memory import keep_freed_memory
from ganlab.training.step import Learner

RING8, DCGAN = ("experiment=ring8",), ("dataset=mnist5", "model=dcgan_small")
SETUPS = {
    "ring8 r1": (*RING8, "penalty=r1"),
    "ring8 r1 r2": (*RING8, "penalty=r1_r2"),
    "ring8 as shipped (r1 r2 / 8)": RING8,
    "dcgan_small r1": (*DCGAN, "penalty=r1"),
    "dcgan_small r1 r2": (*DCGAN, "penalty=r1_r2"),
    "dcgan_small as shipped (r1 / 4)": DCGAN,
}
TURN = 1.0  # seconds


def autograd_gradients(discriminator: Discriminator, *batches: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Return the logits of each batch and their gradients at it, from one forward pass."""
    if not batches:
        return [], []
    batches = tuple(x if x.requires_grad else x.detach().requires_grad_() for x in batches)
    logits = [discriminator(x) for x in batches]
    total = torch.stack([logit.sum() for logit in logits]).sum()
    return logits, list(torch.autograd.grad(total, batches, create_graph=True))


def func_gradients(discriminator: Discriminator, *batches: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """As `autograd_gradients`, by function transforms."""
    logits, gradients = [], []
    for x in batches:
        logit, pull_back = torch.func.vjp(discriminator, x)
        logits.append(logit)
        gradients += pull_back(torch.ones_like(logit))
    return logits, gradients


class SharedGame(Game):
    """A game whose penalties R1 and R2 share the forward pass of the adversarial loss."""

    differentiate = staticmethod(autograd_gradients)

    def discriminator_loss(
        self, discriminator: Discriminator, real: Tensor, fake: Tensor, context: StepContext
    ) -> DiscriminatorLoss:
        due = [penalty for penalty in self.penalties.values() if penalty.is_due(context.update)]
        batches = {R1: real, R2: fake}
        needed = [type(penalty) for penalty in due]
        found, gradients = self.differentiate(discriminator, *(batches[kind] for kind in needed))
        logits = dict(zip(needed, found, strict=True))
        real_logit, fake_logit = (logits[kind] if kind in logits else discriminator(x) for kind, x in batches.items())
        adversarial = self.loss.discriminator(real_logit, fake_logit).mean()
        penalties = dict.fromkeys(self.penalties, torch.zeros_like(adversarial))
        for penalty, gradient in zip(due, gradients, strict=True):
            name = next(name for name, other in self.penalties.items() if other is penalty)
            norm = gradient.flatten(1).square().sum(1)
            penalties[name] = (penalty.weight / 2 * norm).mean() * penalty.factor(context.progress)
        total = sum(penalties.values(), start=adversarial)
        return DiscriminatorLoss(
            total, adversarial, penalties, discriminator_stats(real_logit, fake_logit, self.loss.boundary)
        )


class FuncGame(SharedGame):
    differentiate = staticmethod(func_gradients)


WAYS: dict[str, type[Game]] = {"separate": Game, "autograd": SharedGame, "func": FuncGame}


def make_learner(overrides: Sequence[str], way: type[Game]) -> Learner:
    cfg = run_config.check(run_config.compose(["tracker=none", "metrics=none", *overrides]))
    shape = (2,) if "experiment=ring8" in overrides else (1, 28, 28)
    players = build_players(cfg, Description("random", shape, (), AffineUnits()))
    for network in (players.generator, players.discriminator):
        if len(shape) == 3:
            network.to(memory_format=torch.channels_last)
    rng = torch.Generator().manual_seed(0)
    data = torch.rand(1000, *shape, generator=rng).mul(2).sub(1)
    game = build_game(cfg)
    return Learner(
        players=players,
        game=way(game.loss, game.penalties, game.augment),
        optimizers=instantiate(cfg, "optimizer", Optimizers),
        schedule=instantiate(cfg, "schedule", Schedule),
        batches=Batches(data, cfg.trainer.batch_size, cfg.seed),
        seed=cfg.seed,
        last_step=10**9,
        discriminator_steps=1,
        clip_gradient=None,
        ema_half_life=cfg.trainer.get("ema_half_life") or 500,
        ema_ramp=None,
    )


def seconds(learner: Learner, steps: int) -> float:
    """Seconds per step of the next turn."""
    started = time.perf_counter()
    for _ in range(steps):
        learner.update()
    return (time.perf_counter() - started) / steps


def measure(rounds: int) -> None:
    print(f"{torch.get_num_threads()} threads, {rounds} rounds, ms per step and ratio to separate")
    for name, overrides in SETUPS.items():
        learners = {way: make_learner(overrides, game) for way, game in WAYS.items()}
        steps = max(8, round(TURN / seconds(learners["separate"], 24)) // 8 * 8)  # a multiple of both intervals
        rows = []
        for turn in range(rounds + 1):
            ways = list(learners)[turn % 3 :] + list(learners)[: turn % 3]
            row = {way: seconds(learners[way], steps) for way in ways}
            rows += [row] if turn else []  # the first one warms up
        cells = []
        for way in WAYS:
            milliseconds = 1000 * statistics.median(row[way] for row in rows)
            ratio = statistics.median(row["separate"] / row[way] for row in rows)
            cells.append(f"{way} {milliseconds:7.3f} ({ratio:.2f}x)")
        print(f"{name:32s}  " + "   ".join(cells), flush=True)


# The check -------------------------------------------------------------------------------------------------


Step = Callable[[dict[str, Tensor], Tensor, Tensor], Tensor]


def loss_of(learner: Learner) -> Step:
    """The discriminator's loss as a function of its parameters, real and fake examples."""
    context = StepContext(0, 0.0, StepRNG(0, "discriminator", 0, torch.device("cpu")))

    def loss(parameters: dict[str, Tensor], real: Tensor, fake: Tensor) -> Tensor:
        def discriminator(x: Tensor) -> Tensor:
            return torch.func.functional_call(learner.discriminator, parameters, (x,))  # type: ignore[no-any-return]

        return learner.game.discriminator_loss(discriminator, real, fake, context).total

    return loss


def outer_autograd(loss: Step) -> Callable[..., tuple[Tensor, ...]]:
    """Differentiate as training does: torch.autograd.grad outside of the loss."""

    def step(parameters: dict[str, Tensor], real: Tensor, fake: Tensor) -> tuple[Tensor, ...]:
        value = loss(parameters, real, fake)
        return (value.detach(), *torch.autograd.grad(value.sum(), list(parameters.values())))

    return step


def outer_func(loss: Step) -> Callable[..., tuple[Tensor, ...]]:
    """Differentiate by torch.func.grad."""

    def step(parameters: dict[str, Tensor], real: Tensor, fake: Tensor) -> tuple[Tensor, ...]:
        gradient, value = torch.func.grad_and_value(loss)(parameters, real, fake)
        return (value, *gradient.values())

    return step


def whole_step(differentiated: Callable[..., tuple[Tensor, ...]]) -> Callable[..., tuple[Tensor, ...]]:
    """Loss, gradient and an optimizer step (SGD) in one function."""

    def step(parameters: dict[str, Tensor], real: Tensor, fake: Tensor) -> tuple[Tensor, ...]:
        value, *gradient = differentiated(parameters, real, fake)
        return (value, *(p - 0.01 * g for p, g in zip(parameters.values(), gradient, strict=True)))

    return step


def stacked_discriminator(learner: Learner, loss: Step, members: int) -> Step:
    """The losses of several members; only the forward passes are vectorised, and gradients are taken outside."""
    context = StepContext(0, 0.0, StepRNG(0, "discriminator", 0, torch.device("cpu")))

    def losses(parameters: dict[str, Tensor], real: Tensor, fake: Tensor) -> Tensor:
        def discriminator(x: Tensor) -> Tensor:
            call = lambda p, inputs: torch.func.functional_call(learner.discriminator, p, (inputs,))  # noqa: E731
            return torch.vmap(call)(parameters, x.unflatten(0, (members, -1))).flatten()

        total = learner.game.discriminator_loss(discriminator, real.flatten(0, 1), fake.flatten(0, 1), context).total
        return members * total  # a mean over all examples

    return losses


def check() -> None:
    torch._dynamo.config.trace_autograd_ops = True
    for name in ("ring8 r1 r2", "dcgan_small r1 r2"):
        print(f"{name}: relative difference to separate runs in eager mode, ms")
        expected: dict[str, tuple[Tensor, ...]] = {}
        for way, game in WAYS.items():
            learner = make_learner(SETUPS[name], game)
            learner.discriminator.double()
            shape, rng = learner.batches.data.shape[1:], torch.Generator().manual_seed(1)
            real, fake = torch.rand(2, 64, *shape, generator=rng, dtype=torch.float64) * 2 - 1
            loss = loss_of(learner)
            one = {key: p.detach().clone().requires_grad_() for key, p in learner.discriminator.named_parameters()}
            members = {key: torch.stack([p * (1 + k / 10) for k in range(3)]) for key, p in one.items()}
            three = {key: p.detach().requires_grad_() for key, p in members.items()}
            reals, fakes = (torch.stack([x * (1 - k / 10) for k in range(3)]) for x in (real, fake))
            if way == "separate":
                each = [({key: p[k] for key, p in three.items()}, reals[k], fakes[k]) for k in range(3)]
                singles = [outer_autograd(loss)(*arguments) for arguments in each]
                expected["vmap"] = tuple(torch.stack(parts) for parts in zip(*singles, strict=True))
                expected["loss"] = outer_autograd(loss)(one, real, fake)
                expected["step"] = whole_step(outer_autograd(loss))(one, real, fake)
            if way == "autograd":  # the compiler refuses to trace requires_grad_
                real, fake, reals, fakes = (x.detach().requires_grad_() for x in (real, fake, reals, fakes))
            single, stacked = (one, real, fake), (three, reals, fakes)
            forward = stacked_discriminator(learner, loss, 3)
            attempts: dict[str, tuple[str, Callable[..., tuple[Tensor, ...]], tuple[Any, ...]]] = {
                "eager": ("loss", outer_autograd(loss), single),
                "compile the loss": ("loss", outer_autograd(compiled(loss)), single),
                "compile the step, autograd": ("step", compiled(whole_step(outer_autograd(loss))), single),
                "compile the step, func": ("step", compiled(whole_step(outer_func(loss))), single),
                "vmap the forward": ("vmap", outer_autograd(forward), stacked),
                "vmap the loss": ("vmap", outer_autograd(torch.vmap(loss)), stacked),
                "vmap the gradient": ("vmap", torch.vmap(outer_func(loss)), stacked),
            }
            for what, (key, function, inputs) in attempts.items():
                try:
                    result = function(*inputs)
                except Exception as error:  # noqa: BLE001 - whether it fails is the question
                    outcome = f"fails: {' '.join(str(error).split())[:120]}"
                else:
                    start = int(what == "vmap the forward")  # its loss is the sum over members
                    difference = max(
                        float((a - b).detach().abs().max() / b.detach().abs().max())
                        for a, b in zip(result[start:], expected[key][start:], strict=True)
                    )
                    outcome = f"{difference:.0e}  {1000 * median_seconds(partial(function, *inputs)):7.3f}"
                print(f"  {way:9s} {what:28s} {outcome}", flush=True)
                torch._dynamo.reset()


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, fullgraph=True)


def median_seconds(function: Callable[[], object], num: int = 60) -> float:
    times = []
    for _ in range(num):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def main(arguments: Sequence[str]) -> None:
    keep_freed_memory()
    if arguments == ["check"]:
        check()
    else:
        measure(int(arguments[0]) if arguments else 15)


if __name__ == "__main__":
    main(sys.argv[1:])
