"""Devices and number types by name."""

import pytest
import torch

from spn4cir.device import choose_device, dtype_of
from spn4cir.errors import InputError


@pytest.mark.parametrize(("devices", "expected"), [(0, "cpu"), (1, "cuda")])
def test_auto_takes_the_gpu_where_there_is_one(monkeypatch, devices, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: devices > 0)
    assert choose_device("auto") == torch.device(expected)


def test_named_devices_are_taken_as_named(monkeypatch):
    current = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    assert current == [torch.device("cuda", 1)], "for libraries that name no device"


@pytest.mark.parametrize(("name", "devices"), [("cuda", 0), ("cuda:2", 2)])
def test_absent_cuda_is_refused_with_its_remedy(monkeypatch, name, devices):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    with pytest.raises(InputError, match=rf"'{name}'.*{devices} CUDA devices.*use auto or cpu"):
        choose_device(name)


@pytest.mark.parametrize(("name", "rounded"), [("cuda", False), ("cpu", True)])
def test_float32_is_not_rounded_on_a_gpu(monkeypatch, name, rounded):
    """Neither in convolutions nor in matrix products; without a GPU nothing is touched."""
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    try:
        torch.backends.cudnn.allow_tf32 = True
        torch.set_float32_matmul_precision("high")
        choose_device(name)
        assert torch.backends.cudnn.allow_tf32 is rounded
        assert torch.get_float32_matmul_precision() == ("high" if rounded else "highest")
    finally:
        torch.backends.cudnn.allow_tf32 = before[0]
        torch.set_float32_matmul_precision(before[1])


def test_unknown_device_is_refused():
    with pytest.raises(InputError, match="'gpu' is not a device"):
        choose_device("gpu")


def test_auto_dtype_is_half_precision_on_cuda_only():
    assert dtype_of("auto", torch.device("cuda")) is torch.float16
    assert dtype_of("auto", torch.device("cpu")) is torch.float32


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16"])
def test_named_dtypes(name):
    assert dtype_of(name, torch.device("cpu")) is getattr(torch, name)


def test_unknown_dtype_is_refused():
    with pytest.raises(InputError, match="'half' is unknown"):
        dtype_of("half", torch.device("cpu"))
