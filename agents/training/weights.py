"""What training in torch shares: seeded epochs, weights by name, and Adam's memory in a state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from agents.core.artifacts import Content
from agents.core.errors import UsageError

Weights = dict[str, Tensor]

# Prefixes of the arrays in a state.
_NOW, _BEST = "now_", "best_"
_MEAN, _SQUARE = "mean_", "square_"


@contextmanager
def seeded(seed: int, epoch: int, threads: int, device: torch.device) -> Iterator[None]:
    """Torch with the threads and random numbers of this epoch; afterwards as it was."""
    before = torch.get_num_threads()
    gpus = [torch.cuda.current_device()] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        own = np.random.SeedSequence([seed, epoch])
        torch.manual_seed(int(own.generate_state(1, np.uint64)[0]))
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def device_of(name: str, device: str) -> torch.device:
    """The device that an option names; UsageError for a GPU that torch does not find."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            f"{name} is set to train on a GPU (device: cuda), but torch finds "
            "none; on Ray, a fit gets the number of GPUs in `run.fit_gpus`"
        )
    return torch.device(device)


def trainable(weights: Mapping[str, Tensor], device: torch.device) -> Weights:
    return {name: weight.to(device).requires_grad_() for name, weight in weights.items()}


def copied(weights: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: array_of(weight) for name, weight in weights.items()}


def array_of(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().copy()


def weight_arrays(now: Weights, best: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a state holds of the weights: as they are, and the best so far."""
    found = {_NOW + name: array for name, array in copied(now).items()}
    return found | {_BEST + name: array for name, array in best.items()}


def restored_weights(state: Content, device: torch.device) -> tuple[Weights, dict[str, np.ndarray]]:
    """The weights that `weight_arrays` has put into a state."""
    best = {name: weight.numpy() for name, weight in _under(state, _BEST).items()}
    return trainable(_under(state, _NOW), device), best


def _under(state: Content, prefix: str) -> Weights:
    """The arrays of a state whose names begin with `prefix`, as tensors of their own."""
    return {
        name.removeprefix(prefix): torch.from_numpy(array.copy())
        for name, array in state.arrays.items()
        if name.startswith(prefix)
    }


def adam_arrays(adam: torch.optim.Adam, weights: Weights) -> tuple[float, dict[str, np.ndarray]]:
    """Adam's steps, and its means by weight; (0, {}) if it has made no step."""
    step, arrays = 0.0, {}
    for name, weight in weights.items():
        if not (kept := adam.state.get(weight)):
            continue
        step = float(kept["step"])
        arrays[_MEAN + name] = array_of(kept["exp_avg"])
        arrays[_SQUARE + name] = array_of(kept["exp_avg_sq"])
    return step, arrays


def restore_adam(
    adam: torch.optim.Adam, weights: Weights, step: float, state: Content, device: torch.device
) -> None:
    """Gives Adam the memory that `adam_arrays` has put into a state."""
    means, squares = _under(state, _MEAN), _under(state, _SQUARE)
    for name, weight in weights.items():
        if name in means:
            adam.state[weight] = {
                "step": torch.tensor(step),
                "exp_avg": means[name].to(device),
                "exp_avg_sq": squares[name].to(device),
            }
