"""A checkpoint with any entry changed is refused, naming the entry, or has no effect; it never causes a traceback."""

from __future__ import annotations

import codecs
import math
import pickle
import struct
import subprocess
import tracemalloc
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from conftest import make_run
from torch import Tensor, nn

from ganlab import load_run
from ganlab.build import build
from ganlab.config import run_config
from ganlab.errors import CheckpointError, ConfigError
from ganlab.optimizers import check_num_updates, check_optimizer_state, restore_optimizer
from ganlab.runs.checkpoints import FORMAT, MAX_DEPTH, read
from ganlab.runs.folder import RunFolder
from ganlab.training.step import optimizer_step
from ganlab.training.trainer import Trainer

Keys = tuple[Any, ...]
Change = Callable[[Any], Any]
MISSING = object()


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def shared(depth: int) -> list[Any]:
    """Nested lists that share their parts: a file stores `depth` lists, which expand to 2 ** depth."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value, value]
    return value


def cyclic() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def with_one(value: float) -> Change:
    """Return the tensor with its last number replaced."""

    def change(tensor: Tensor) -> Tensor:
        tensor = tensor.clone() if tensor.is_floating_point() else tensor.double()
        tensor[(-1,) * tensor.dim()] = value
        return tensor

    return change


def with_hook(tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    hooked = tensor.detach().clone().requires_grad_()
    hooked._backward_hooks = OrderedDict({0: 5})
    return hooked


def with_attributes(tensor: Tensor) -> Tensor:
    tensor = tensor.clone()
    tensor.isfinite = tensor.to = tensor.clone_ = tensor.copy_ = 5
    return tensor


def like_a_parameter(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)


def quantized(tensor: Tensor) -> Tensor:
    return torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.qint8)


ANYTHING: dict[str, Change] = {
    "missing": lambda _: MISSING,
    "none": lambda value: 0 if value is None else None,
    "text": lambda _: "x" * 10**5,
    "surrogate": lambda _: "\ud800",
    "boolean": lambda _: True,
    "huge integer": lambda _: 10**600,
    "list": lambda value: [value],
    "tuple": lambda value: (value,),
    "set": lambda _: {1},
    "bytes": lambda _: b"x",
    "complex": lambda _: 1j,
    "counter": lambda _: Counter("x"),
    "dictionary": lambda value: {"x": value},
    "dtype": lambda _: torch.float32,
    "deep": lambda _: nested(2 * MAX_DEPTH),
    "cyclic": lambda _: cyclic(),
    "nan": lambda _: math.nan,
    "tensor": lambda _: torch.zeros(7, 3),
}
TENSORS: dict[str, Change] = {
    "three zeros": lambda _: torch.zeros(3),
    "another dimension": lambda tensor: tensor.unsqueeze(0),
    "flat": lambda tensor: tensor.reshape(-1) if tensor.dim() != 1 else tensor.reshape(-1, 1),
    "one more row": lambda tensor: torch.cat([tensor, tensor[:1]]) if tensor.dim() else tensor.expand(2),
    "empty": lambda tensor: tensor.reshape(-1)[:0],
    "float64": lambda tensor: tensor.double(),
    "float16": lambda tensor: tensor.half(),
    "bfloat16": lambda tensor: tensor.bfloat16(),
    "int32": lambda tensor: tensor.int(),
    "bool": lambda tensor: tensor.bool(),
    "complex64": lambda tensor: tensor.to(torch.complex64),
    "nan": with_one(math.nan),
    "infinite": with_one(math.inf),
    "sparse": lambda tensor: tensor.reshape(1, -1).to_sparse(),
    "sparse csr": lambda tensor: tensor.reshape(1, -1).to_sparse_csr(),
    "quantized": quantized,
    "nested": lambda tensor: torch.nested.nested_tensor([tensor.reshape(-1), tensor.reshape(-1)]),
    "meta": lambda tensor: tensor.to("meta"),
    "parameter": like_a_parameter,
    "expanded": lambda tensor: torch.zeros((), dtype=torch.float32).expand(10**6, 10**6),
    "storage": lambda tensor: tensor.clone().untyped_storage(),
    "list of numbers": lambda tensor: tensor.tolist(),
}
SAME_TENSORS: dict[str, Change] = {  # an equivalent form, which must be accepted
    "a view of more": lambda tensor: torch.stack([tensor, tensor + 1])[0],
    "other strides": lambda tensor: torch.stack([tensor, tensor], -1)[..., 0],
    "a hook": with_hook,
    "attributes": with_attributes,
}
DICTIONARIES: dict[str, Change] = {
    "empty": lambda _: {},
    "one more": lambda value: value | {"x": 1},
    "a number as a key": lambda value: value | {2**70: 1},
    "a tuple as a key": lambda value: value | {("x", 1): 1},
    "a tensor as a key": lambda value: value | {torch.zeros(1): 1},
    "keys as text": lambda value: {f"{key}x": part for key, part in value.items()},
    "items": lambda value: list(value.items()),
}
SAME_DICTIONARIES: dict[str, Change] = {
    "reversed": lambda value: dict(reversed(value.items())),
    "versions": lambda value: with_instance(value, _metadata=5),
    "methods": lambda value: with_instance(value, keys=5, get=5, __contains__=5),
}
NUMBERS: dict[str, Change] = {
    "negative": lambda value: -1 - value,
    "infinite": lambda _: math.inf,
    "too large": lambda value: type(value)(1e30),
    "float for int": lambda value: value + 0.5 if isinstance(value, int) else str(value),
}
WITHOUT_EFFECT = {"param_groups", "config"}  # their content is not loaded


def with_instance(value: dict[Any, Any], **attributes: Any) -> OrderedDict[Any, Any]:
    changed = OrderedDict(value)
    changed.__dict__.update(attributes)
    return changed


def changes_of(value: object) -> dict[str, Change]:
    if isinstance(value, Tensor):
        return ANYTHING | TENSORS | SAME_TENSORS
    if isinstance(value, dict):
        return ANYTHING | DICTIONARIES | SAME_DICTIONARIES
    if isinstance(value, int | float):
        return ANYTHING | NUMBERS
    return ANYTHING


def entries(value: object, path: Keys = ()) -> Iterator[Keys]:
    """Yield all paths in the content, except those below entries without effect."""
    if path:
        yield path
    if path[-1:] and path[-1] in WITHOUT_EFFECT:
        return
    if isinstance(value, dict):
        for key, part in value.items():
            yield from entries(part, (*path, key))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from entries(part, (*path, index))


def at(content: Any, path: Keys) -> Any:
    for key in path:
        content = content[key]
    return content


def changed(content: Any, path: Keys, change: Change) -> Any:
    """Return the content with the value at a path changed or removed."""
    if not path:
        return change(content)
    key, *rest = path
    new = changed(content[key], tuple(rest), change)
    if isinstance(content, dict):
        items = {k: (new if k == key else part) for k, part in content.items()}
        return {k: part for k, part in items.items() if part is not MISSING}
    items = [new if index == key else part for index, part in enumerate(content)]
    return [part for part in items if part is not MISSING]


def name_of(path: Keys) -> str:
    """Return the path as written in an error message."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)[1:]


class Attack(NamedTuple):
    path: Keys
    name: str

    def __str__(self) -> str:
        return f"{name_of(self.path)}: {self.name}"


def attacks(content: dict[str, Any]) -> list[Attack]:
    return [Attack(path, name) for path in entries(content) for name in changes_of(at(content, path))]


RUNS = {
    "circle": ("trainer.steps=3",),
    "digits": (
        *("dataset=digits", "model=dcgan_small", "trainer.steps=2", "condition=projection", "penalty=r1"),
        *("model.discriminator.spectral_norm=true", "trainer.log_every=null"),
    ),
}


class Victim(NamedTuple):
    """A run, and a trainer to restore from it."""

    folder: Path
    trainer: Trainer
    content: dict[str, Any]

    @property
    def file(self) -> Path:
        return self.folder / "checkpoints" / "last.pt"

    def write(self, content: Any) -> None:
        torch.save(content, self.file)


@pytest.fixture(scope="module", params=RUNS)
def victim(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Victim:
    return make_victim(tmp_path_factory.mktemp("attacks") / request.param, *RUNS[request.param])


def make_victim(folder: Path, *overrides: str) -> Victim:
    make_run(folder, *overrides, "trainer.sample_every=null", "trainer.checkpoint_every=null")
    cfg = run_config.load(folder)
    trainer = build(cfg, RunFolder(folder), resume=True)
    trainer.recorder.run.close()
    return Victim(folder, trainer, read(folder / "checkpoints" / "last.pt"))


def scramble(trainer: Trainer) -> None:
    """Change everything that a checkpoint restores."""
    for part in trainer.state.values():
        if isinstance(part, nn.Module):
            for tensor in part.state_dict().values():
                tensor.zero_()
        elif isinstance(part, torch.optim.Optimizer):
            part.state.clear()
    trainer.means.reset()
    trainer.watchdog.load_state_dict({"highest": {}, "suspicious": 7, "good_step": 0})
    trainer.progress.step = trainer.progress.roll_backs = 77
    trainer.progress.seconds = -1.0


def state_of(trainer: Trainer) -> dict[str, Any]:
    return {name: copied(part.state_dict()) for name, part in trainer.state.items()}


def copied(value: Any) -> Any:
    """A deep copy that keeps tensor layouts and drops the attributes of a `state_dict`."""
    if isinstance(value, dict):
        return {key: copied(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [copied(part) for part in value]
    return value.detach().clone() if isinstance(value, Tensor) else value


def equal(first: Any, second: Any) -> bool:
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(equal, first, second))
    if isinstance(first, Tensor):
        alike = (first.dtype, first.shape, first.stride()) == (second.dtype, second.shape, second.stride())
        return alike and torch.equal(first, second)
    return type(first) is type(second) and first == second


def resumed(victim: Victim) -> Any:
    """The state that a resumed run starts from."""
    victim.trainer.restore()
    return state_of(victim.trainer)


def sampled(weights: str) -> Callable[[Victim], Any]:
    return lambda victim: load_run(victim.folder, weights=weights).sample(3)


def result_of(victim: Victim, attack: Attack, use: Callable[[Victim], Any], expected: Any) -> str:
    """The outcome of using a changed checkpoint: `refused`, `same`, `not possible` or a description of the defect."""
    scramble(victim.trainer)
    try:
        victim.write(changed(victim.content, attack.path, changes_of(at(victim.content, attack.path))[attack.name]))
    except (TypeError, RuntimeError, NotImplementedError, AttributeError, RecursionError):
        return "not possible"  # torch cannot write it
    try:
        result = use(victim)
    except CheckpointError as error:
        message = str(error)
        named = attack.path[:2] if attack.path[0] == "data" else attack.path
        if attack.name != "bytes" and name_of(named) not in message:  # refused before anything is read
            return f"is not named: {message}"
        return "refused" if len(message) < 400 and message.isprintable() else f"no clear line: {message[:400]}"
    except Exception as error:  # noqa: BLE001
        return f"{type(error).__name__}: {error}"
    return "same" if equal(result, expected) else "accepted, though it is different"


def holds(attack: Attack, result: str) -> bool:
    harmless = SAME_TENSORS.keys() | SAME_DICTIONARIES.keys()
    if attack.path[:2] == ("watchdog", "highest"):  # earlier scores may have any value
        return attack.name in ("missing", "empty", "too large", *harmless) or result == "refused"
    if result == "same":
        return attack.name in harmless or attack.path[-1] in WITHOUT_EFFECT
    return result in ("refused", "not possible")


@pytest.mark.filterwarnings("ignore")  # from torch, when it writes rare kinds of tensors
def test_a_changed_entry_is_refused_by_name_or_has_no_effect(victim: Victim) -> None:
    victim.write(victim.content)
    expected = resumed(victim)
    some = attacks(victim.content)[::31]  # all of them would take minutes
    results = {attack: result_of(victim, attack, resumed, expected) for attack in some}
    assert {str(attack): result for attack, result in results.items() if not holds(attack, result)} == {}
    assert sum(result == "refused" for result in results.values()) > 0.7 * len(some)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("weights", ["ema", "raw"])
def test_a_changed_entry_is_refused_or_has_no_effect_on_samples(
    victim: Victim, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = run_config.load(victim.folder)
    monkeypatch.setattr(run_config, "load", lambda *_: cfg)
    victim.write(victim.content)
    expected = sampled(weights)(victim)
    used = {"ema": "ema", "raw": "generator"}[weights], "progress", "config_hash"
    some = [attack for attack in attacks(victim.content) if attack.path[0] in used][::19]
    results = {attack: result_of(victim, attack, sampled(weights), expected) for attack in some}
    assert {str(attack): result for attack, result in results.items() if not holds(attack, result)} == {}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("entry", ["shape", "classes", "units", "scale", "center"])
def test_an_invalid_description_of_the_data_is_refused_before_sampling(victim: Victim, entry: str) -> None:
    path = ("data", "units", entry) if entry in ("scale", "center") else ("data", entry)
    names = (ANYTHING | NUMBERS).keys() & changes_of(at(victim.content, path)).keys()
    if entry == "scale":
        names = names - {"too large"}  # any positive scale is valid
    results = {name: result_of(victim, Attack(path, name), sampled("ema"), None) for name in names}
    assert {name: result for name, result in results.items() if result not in ("refused", "not possible")} == {}


def test_a_bad_last_entry_prevents_loading_any_entry(victim: Victim) -> None:
    scramble(victim.trainer)
    before = state_of(victim.trainer)
    names = list(victim.content["discriminator_optimizer"]["state"])
    victim.write(changed(victim.content, ("discriminator_optimizer", "state", names[-1], "exp_avg_sq"), with_one(-1.0)))
    with pytest.raises(CheckpointError, match="exp_avg_sq: must not be negative"):
        victim.trainer.restore()
    assert equal(state_of(victim.trainer), before)


def test_moments_of_one_memory_are_taken_apart(victim: Victim) -> None:
    moments = victim.content["generator_optimizer"]["state"][0]
    both = moments | {"exp_avg": moments["exp_avg_sq"]}
    victim.write(changed(victim.content, ("generator_optimizer", "state", 0), lambda _: both))
    victim.trainer.restore()
    victim.trainer.recorder.run.rewind(0)
    training_step = victim.trainer.training_step
    restored = training_step.generator_optimizer.state[training_step.generator_parameters[0]]
    assert torch.equal(restored["exp_avg"], restored["exp_avg_sq"])
    assert restored["exp_avg"].data_ptr() != restored["exp_avg_sq"].data_ptr()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("generator_optimizer", "state", 0, "step"), torch.tensor(0.5), r"generator_optimizer.state\[0\].step=0.5"),
        (("generator_optimizer", "state", 0, "step"), torch.tensor(99.0), r"generator_optimizer.state\[0\].step=99"),
        (("watchdog", "good_step"), 50, "watchdog.good_step=50: must be at most progress.step="),
        (("means", "count"), 1, "means.names: expected loss_discriminator, "),
        (("means",), {"names": ["a"], "sums": torch.zeros(1), "count": 1}, "means.names: expected loss_discriminator"),
        (("data", "units", "scale"), 2.0, "data.units.scale=2.0: must be 1.0"),
        (("extra",), 1, "extra: unexpected"),
    ],
)
def test_entries_agree_with_each_other(victim: Victim, path: Keys, value: Any, message: str) -> None:
    content = victim.content | {"extra": None} if path == ("extra",) else victim.content
    victim.write(changed(content, path, lambda _: value))
    with pytest.raises(CheckpointError, match=message):
        victim.trainer.restore()


def test_the_step_must_equal_the_updates_of_the_optimizers(victim: Victim) -> None:
    earlier = {
        "progress": victim.content["progress"] | {"step": 1},
        "watchdog": victim.content["watchdog"] | {"good_step": 1},
    }
    victim.write(victim.content | earlier)
    with pytest.raises(CheckpointError, match=r"generator_optimizer\.state\[0\]\.step=[23]: .* at most 1 in this run"):
        victim.trainer.restore()
    fewer = copied(victim.content["discriminator_optimizer"])
    for moments in fewer["state"].values():
        moments["step"] -= 1
    victim.write(victim.content | {"discriminator_optimizer": fewer})
    with pytest.raises(
        CheckpointError, match=r"discriminator_optimizer\.state: the largest step is [12], expected [23]"
    ):
        victim.trainer.restore()


def test_a_step_beyond_the_last_is_refused(victim: Victim) -> None:
    victim.write(changed(victim.content, ("progress", "step"), lambda _: 10))
    with pytest.raises(ConfigError, match=r"last\.pt: the run is already at step 10; this asks for only"):
        victim.trainer.restore()


def test_the_name_of_a_checkpoint_must_match_its_step(victim: Victim) -> None:
    file = victim.file.with_name("step_00000009.pt")
    torch.save(victim.content, file)
    (file.parent / "step_latest.pt").touch()  # not one of ours
    with pytest.raises(CheckpointError, match=r"step_00000009\.pt: progress.step=[0-9]: must be 9, the step in"):
        load_run(victim.folder, checkpoint="9")
    file.unlink()


def test_samples_from_overflowing_weights_are_refused(victim: Victim) -> None:
    huge = {name: tensor.clone().fill_(1e38) if tensor.is_floating_point() else tensor
            for name, tensor in victim.content["ema"].items()}  # fmt: skip
    victim.write(victim.content | {"ema": huge})
    with pytest.raises(CheckpointError, match=r"last\.pt: the generator's samples are not finite"):
        load_run(victim.folder).sample(3)


def test_a_missing_average_is_not_replaced_by_the_raw_weights(victim: Victim) -> None:
    victim.write({name: entry for name, entry in victim.content.items() if name != "ema"})
    with pytest.raises(CheckpointError, match=r"last\.pt: ema: missing"):
        load_run(victim.folder)


@pytest.mark.parametrize("victim", ["circle"], indirect=True)
def test_an_invalid_optimizer_state_is_refused_in_one_line(
    victim: Victim, ganlab: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    path = ("generator_optimizer", "state", 1, "exp_avg")
    shape = list(at(victim.content, path).shape)
    victim.write(changed(victim.content, path, lambda _: torch.zeros(3)))
    ended = ganlab(f"resume={victim.folder}", "trainer.steps=9")
    message = f"{victim.file}: generator_optimizer.state[1].exp_avg: shape [3], expected {shape}"
    assert (ended.returncode, ended.stderr) == (2, f"ganlab: {message}\n")
    victim.write(
        changed(victim.content, ("ema",), lambda ema: {name: t.to(torch.complex64) for name, t in ema.items()})
    )
    ended = ganlab(f"run={victim.folder}", module="ganlab.sample")
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "dtype complex64, expected float32" in ended.stderr


# Files that are not checkpoints and could cost memory or time ------------------------------------------------


def archive(tmp_path: Path, **members: bytes) -> Path:
    file = tmp_path / "last.pt"
    with zipfile.ZipFile(file, "w") as made:
        for name, content in members.items():
            made.writestr(f"last/{name.replace('_', '.')}", content)
    return file


def test_compressed_members_are_refused(tmp_path: Path) -> None:
    torch.save({"format": 3}, tmp_path / "last.pt")
    with (
        zipfile.ZipFile(tmp_path / "last.pt", "a", zipfile.ZIP_DEFLATED) as bomb,
        bomb.open("last/data/0", "w") as zeros,
    ):
        for _ in range(200):
            zeros.write(bytes(10**6))
    tracemalloc.start()
    with pytest.raises(CheckpointError, match="'last/data/0' is compressed or encrypted"):
        read(tmp_path / "last.pt")
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (8, 1, "compressed or encrypted"),  # flags
        (10, 8, "compressed or encrypted"),  # method
        (38, 0x10, "a directory"),  # attributes
        (24, 2**31, "damaged"),  # size
        (42, 2**31, "damaged"),  # offset of the member
    ],
)
def test_a_wrong_directory_of_the_archive_is_refused(tmp_path: Path, offset: int, value: int, message: str) -> None:
    torch.save({"format": 3}, tmp_path / "last.pt")
    content = bytearray((tmp_path / "last.pt").read_bytes())
    start = content.index(b"PK\x01\x02") + offset
    content[start : start + (4 if value > 2**16 else 2)] = struct.pack("<I" if value > 2**16 else "<H", value)
    (tmp_path / "last.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read(tmp_path / "last.pt")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicate_members_are_refused(tmp_path: Path) -> None:
    torch.save({"format": 3}, tmp_path / "last.pt")
    with zipfile.ZipFile(tmp_path / "last.pt", "a") as twice:
        twice.writestr("last/data.pkl", pickle.dumps({"format": 3}, 2))
    with pytest.raises(CheckpointError, match="two members have the same name"):
        read(tmp_path / "last.pt")


class Call:
    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize(
    "call", [Call(bytearray, 10**10), Call(codecs.encode, Call(codecs.encode, b"00", "hex"), "hex")]
)
def test_a_call_that_allocates_memory_is_refused(tmp_path: Path, call: Call) -> None:
    torch.save({"format": 3, "config": call}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match="is neither a tensor nor a plain value"):
        read(tmp_path / "last.pt")


def test_lists_that_share_their_parts_are_not_unrolled(tmp_path: Path) -> None:
    torch.save({"format": 3, "config": shared(40)}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match=r"config.* has more than 50 levels, or 100,000 values"):
        read(tmp_path / "last.pt")


def test_any_bytes_are_read_or_refused(victim: Victim, tmp_path: Path) -> None:
    torch.save(victim.content, tmp_path / "last.pt")
    whole = (tmp_path / "last.pt").read_bytes()
    random, num_refused = torch.Generator().manual_seed(0), 0
    for _ in range(100):
        content = bytearray(whole)
        tail = torch.randint(len(content) - 4000, len(content), (3,), generator=random)  # the archive's directory
        for index in [*tail.tolist(), *torch.randint(len(content), (1,), generator=random).tolist()]:
            content[index] = int(torch.randint(256, (), generator=random))
        (tmp_path / "last.pt").write_bytes(content)
        try:
            content_read = read(tmp_path / "last.pt")
        except CheckpointError:
            num_refused += 1
        else:  # only bytes without meaning were changed, such as padding
            assert equal(copied(content_read), copied(victim.content))
    assert num_refused > 50


# Optimizers ------------------------------------------------------------------------------------------------


class Own(torch.optim.Optimizer):
    """A user-defined optimizer with an attribute, numbers, and a moment for some parameters only."""

    def __init__(self, parameters: Any, lr: float = 0.1) -> None:
        super().__init__(parameters, {"lr": lr})
        self.calls = 0

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        self.calls += 1
        for parameter in self.param_groups[0]["params"]:
            if parameter.grad is not None:
                state = self.state[parameter]
                state["count"] = state.get("count", 0) + 1
                state["scale"] = 1.5
                if parameter.dim() > 1:
                    state.setdefault("moment", torch.zeros_like(parameter, dtype=torch.float32)).add_(parameter.grad)
                parameter -= 0.1 * parameter.grad


def partly_used() -> nn.ModuleDict:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.ModuleDict({"used": nn.Linear(3, 2), "unused": nn.Linear(2, 1)})


def in_two_groups(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.Adam([{"params": parameters[2:]}, {"params": parameters[:2]}])


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    **{name: getattr(torch.optim, name) for name in (
        *("Adam", "AdamW", "Adamax", "NAdam", "RAdam", "Adadelta", "Adagrad", "Adafactor", "ASGD"),
        *("RMSprop", "Rprop", "SGD"))},
    "momentum": partial(torch.optim.SGD, lr=0.1, momentum=0.9),
    "centred": partial(torch.optim.RMSprop, centered=True, momentum=0.5),
    "amsgrad": partial(torch.optim.Adam, amsgrad=True, fused=True),
    "own": Own,
    "two groups": lambda parameters: in_two_groups(list(parameters)),
}  # fmt: skip


def updates(network: nn.ModuleDict, optimizer: torch.optim.Optimizer, num: int) -> None:
    for _ in range(num):
        optimizer_step(network["used"](torch.ones(4, 3)).square().mean(), list(network.parameters()), optimizer)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_resumes_as_if_not_interrupted(name: str, tmp_path: Path) -> None:
    make = OPTIMIZERS[name]
    network = partly_used()
    optimizer = make(network.parameters())
    updates(network, optimizer, 3)
    torch.save(
        {"format": FORMAT, "network": network.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "last.pt"
    )
    content = read(tmp_path / "last.pt")
    updates(network, optimizer, 2)

    other = partly_used()
    restored = make(other.parameters())
    template = check_optimizer_state("optimizer", content["optimizer"], make, other, content["network"])
    check_num_updates("optimizer", restored, content["optimizer"]["state"], 3)
    other.load_state_dict(content["network"])
    restore_optimizer(restored, content["optimizer"], template)
    updates(other, restored, 2)
    torch.testing.assert_close(other.state_dict(), network.state_dict(), rtol=0, atol=0)


def test_a_parameter_that_was_updated_has_a_state() -> None:
    network = partly_used()
    optimizer = torch.optim.Adam(network.parameters())
    updates(network, optimizer, 1)
    entry = optimizer.state_dict()
    del entry["state"][0]
    with pytest.raises(CheckpointError, match=r"optimizer.state\[0\]: missing"):
        check_optimizer_state("optimizer", entry, torch.optim.Adam, partly_used(), network.state_dict())
    never = torch.optim.Adam(partly_used().parameters()).state_dict()  # as before the first step
    template = check_optimizer_state("optimizer", never, torch.optim.Adam, partly_used(), partly_used().state_dict())
    assert template["state"] == {}


def test_the_names_of_the_means_are_those_of_an_update(victim: Victim) -> None:
    victim.write(victim.content)
    victim.trainer.restore()
    assert list(victim.trainer.training_step(0)) == victim.trainer.training_step.keys
