"""Data parallel training: each process computes the gradients of its shard of every batch.

All processes draw the same batches, noise and random numbers, since these are functions of (seed, stream, step), and
keep their rows. The logits and penalties of all shards are gathered, so that every process computes the loss of the
whole batch, and its gradient through its own shard. The sum of these gradients is the gradient of a single process.

Rank 0 trains as a single process does, and is the only one that decides or writes. Before each step it sends the other
ranks a command; they have no loop, config or folder of their own.
"""

from __future__ import annotations

import copy
import io
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import timedelta
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ganlab.errors import ConfigError, OperationalError, ProcessLost
from ganlab.game import packed
from ganlab.rng import StepRNG
from ganlab.runs.checkpoints import Stateful

if TYPE_CHECKING:
    from ganlab.training.step import TrainingStep

log = logging.getLogger(__name__)

TIMEOUT = timedelta(days=1)  # for ranks that wait for an evaluation on rank 0; a process that dies is noticed at once


class Action(IntEnum):
    BUILD = 0  # build the networks; the config follows
    LOAD = 1  # load the state that follows
    STEP = 2  # train step number `number`
    END = 3  # exit with code `number`


class Command(NamedTuple):
    """What rank 0 tells the other ranks to do."""

    action: Action
    number: int = 0
    lr_factor: float = 1.0


class TrainingProcess:
    """A process that trains a run; this base class is the only process of its run, whose shard is the whole batch.

    Attributes:
        signal_number: a stop signal that another process has received; None if there was none.
    """

    num_processes = 1
    signal_number: int | None = None

    def check_batch_size(self, batch_size: int, pack: int) -> None:
        """Refuse batches that cannot be divided among the processes.

        Raises:
            ConfigError: names the batch size and the number of processes.
        """
        num = self.num_processes
        if batch_size % (num * pack):
            packs = f" and model.pack={pack}" if pack > 1 else ""
            raise ConfigError(
                f"trainer.batch_size={batch_size}: must be a multiple of {num * pack}, for {num} processes{packs}"
            )

    # One step ----------------------------------------------------------------------------------------------

    def shard(self, batch: Tensor) -> Tensor:
        """Return the rows of a batch that this process trains on."""
        return batch

    def rng(self, seed: int, stream: str, index: int, device: torch.device) -> StepRNG:
        """Return the random numbers of this process's shard."""
        return StepRNG(seed, stream, index, device)

    def gather(self, *shards: Tensor) -> Sequence[Tensor]:
        """Concatenate the shards of all processes; gradients reach only this process's own."""
        return shards

    def add_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Replace the gradients by their sums over all processes."""

    # Commands of rank 0 ------------------------------------------------------------------------------------

    def send_build(self, description: Mapping[str, Any]) -> None:
        """Have the other processes build the run, from plain values."""

    def send_state(self, state: Mapping[str, Stateful]) -> None:
        """Have the other processes load this state."""

    def send_step(self, step: int, lr_factor: float, state: Mapping[str, Stateful]) -> AbstractContextManager[None]:
        """Context manager in which all processes train a step; restores the state if a lost process interrupts it."""
        return nullcontext()


class DataParallelProcess(TrainingProcess):
    """One of several processes that train a run together; torch.distributed must be initialised.

    Raises:
        ProcessLost: by each method that communicates, if another process has died.
    """

    def __init__(self) -> None:
        self.rank, self.num_processes = dist.get_rank(), dist.get_world_size()
        self._is_in_step = False

    # One step ----------------------------------------------------------------------------------------------

    def shard(self, batch: Tensor) -> Tensor:
        size = len(batch) // self.num_processes
        return batch[self.rank * size : (self.rank + 1) * size]

    def rng(self, seed: int, stream: str, index: int, device: torch.device) -> StepRNG:
        return ShardRNG(self, seed, stream, index, device)

    def gather(self, *shards: Tensor) -> Sequence[Tensor]:
        own = torch.cat(shards)
        parts = [torch.empty_like(own) for _ in range(self.num_processes)]
        with noticing_lost_processes():
            dist.all_gather(parts, own.detach().contiguous())
        parts[self.rank] = own  # with its graph
        columns = zip(*(part.split([len(shard) for shard in shards]) for part in parts), strict=True)
        return [torch.cat(column) for column in columns]

    def add_gradients(self, parameters: Sequence[Tensor]) -> None:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        with noticing_lost_processes():
            dist.all_reduce(flat)
        for gradient, total in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(total.view(gradient.shape))

    # Commands ----------------------------------------------------------------------------------------------

    def send_build(self, description: Mapping[str, Any]) -> None:
        self._command(Command(Action.BUILD), description)

    def send_state(self, state: Mapping[str, Stateful]) -> None:
        self._command(Command(Action.LOAD), {name: part.state_dict() for name, part in state.items()})

    @contextmanager
    def send_step(self, step: int, lr_factor: float, state: Mapping[str, Stateful]) -> Iterator[None]:
        before = copy.deepcopy({name: part.state_dict() for name, part in state.items()})
        self._command(Command(Action.STEP, step, lr_factor))
        self._is_in_step = True
        try:
            yield
        except ProcessLost:
            load_state(state, before)
            raise
        self._is_in_step = False

    def end(self, exit_code: int) -> None:
        """Have the other processes exit; in the middle of a step they notice by themselves that this one exits."""
        with suppress(ProcessLost):
            if not self._is_in_step:
                self._command(Command(Action.END, exit_code))

    def receive(self, signal_number: int | None) -> tuple[Command, Any]:
        """Wait for the next command of rank 0, and return it with the content that follows it.

        Args:
            signal_number: stop signal that this process has received, for rank 0; None if there was none.
        """
        with noticing_lost_processes():
            command = self._exchange(-1, -1, -1, signal_number or 0)
            return command, self._broadcast(None) if command.action in (Action.BUILD, Action.LOAD) else None

    def _command(self, command: Command, content: Any = None) -> None:
        with noticing_lost_processes():
            self._exchange(*command, 0)
            if content is not None:
                self._broadcast(content)

    def _exchange(self, *message: float) -> Command:
        """Send the command of rank 0 to the other ranks, which send -1, and the signals of those to rank 0."""
        largest = torch.tensor(message, dtype=torch.float64)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        action, number, lr_factor, signal_number = largest.tolist()
        self.signal_number = int(signal_number) or None
        return Command(Action(int(action)), int(number), lr_factor)

    def _broadcast(self, content: Any) -> Any:
        buffer = io.BytesIO()
        torch.save(content, buffer)
        box = [buffer.getvalue()]
        dist.broadcast_object_list(box, device=torch.device("cpu"))
        return torch.load(io.BytesIO(box[0]), map_location="cpu", weights_only=True)


class ShardRNG(StepRNG):
    """Draws the random numbers of a whole batch, and returns those of this process's shard."""

    def __init__(self, parallel: DataParallelProcess, seed: int, stream: str, index: int, device: torch.device) -> None:
        super().__init__(seed, stream, index, device)
        self.parallel = parallel

    def uniform(self, num: int, *size: int) -> Tensor:
        return self.parallel.shard(super().uniform(num * self.parallel.num_processes, *size))

    def normal(self, num: int, *size: int) -> Tensor:
        return self.parallel.shard(super().normal(num * self.parallel.num_processes, *size))


SINGLE_PROCESS = TrainingProcess()
_current = SINGLE_PROCESS


def current() -> TrainingProcess:
    """Return this process's part in the run: `SINGLE_PROCESS`, or that of a process of torchrun."""
    return _current


@contextmanager
def process_group() -> Iterator[DataParallelProcess]:
    """Context manager that joins the processes which torchrun has started.

    Raises:
        OperationalError: the processes cannot connect.
    """
    global _current
    try:
        dist.init_process_group(timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise OperationalError(f"the processes of torchrun cannot connect: {reason}") from error
    _current = parallel = DataParallelProcess()
    try:
        yield parallel
    finally:
        _current = SINGLE_PROCESS
        dist.destroy_process_group()


def lead(command: Callable[[], int]) -> int:
    """Run a command on rank 0, tell the other ranks its exit code, and return it."""
    with process_group() as parallel:
        exit_code = 1
        try:
            exit_code = command()
        except SystemExit as ended:
            exit_code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        finally:
            parallel.end(exit_code)
    return exit_code


@contextmanager
def noticing_lost_processes() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # torch.distributed has no narrower class for all of its backends
        raise ProcessLost("another process of this run was lost") from error


def load_state(state: Mapping[str, Stateful], content: Mapping[str, Any]) -> None:
    for name, part in state.items():
        part.load_state_dict(content[name])


def warn_of_batch_statistics(training_step: TrainingStep) -> None:
    """Warn if a network computes statistics over a batch that several processes divide, as batch normalization does."""
    parallel = training_step.parallel
    if parallel.num_processes == 1:
        return
    real, label = training_step.batches(0)
    labels = () if label is None else (label,)
    inputs = {"generator": training_step.noise(0), "discriminator": packed(real, training_step.players.pack)}
    for player, batch in inputs.items():
        if has_batch_statistics(getattr(training_step, player), parallel, batch, *labels):
            log.warning(
                "WARNING: the %s uses statistics of the batch, but each of the %d processes has only its share: "
                "the result depends on the number of processes",
                *(player, parallel.num_processes),
            )


@torch.no_grad()
def has_batch_statistics(network: nn.Module, parallel: TrainingProcess, *inputs: Tensor) -> bool:
    """Whether the output of a network for this process's shard depends on the rest of the batch."""
    network = copy.deepcopy(network)  # a forward pass changes the buffers of batch normalization
    whole, part = network(*inputs), network(*map(parallel.shard, inputs))
    return not torch.allclose(parallel.shard(whole), part, rtol=1e-3, atol=1e-4)
