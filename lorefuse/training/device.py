"""The device that a training computes on."""

from __future__ import annotations

import os

import torch

from lorefuse.core.errors import ConfigError


def device_of(name: str) -> torch.device:
    """Return a device by its name.

    Raises:
        ConfigError: It cannot be used.
    """
    try:
        device = local_device(name)
        torch.zeros((), device=device)
    except (RuntimeError, AssertionError) as error:  # an unknown name, or a device that is not there
        raise ConfigError(
            f"training.device {name!r} cannot be used.", got=str(error).splitlines()[0], fix="set it to cpu"
        ) from None
    return device


def local_device(name: str) -> torch.device:
    """Return the device of a name; in a group ``cuda`` is the GPU of this process's local rank."""
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    return torch.device(name)
