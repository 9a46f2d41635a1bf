"""The device: its choice, its abilities and its description."""

from __future__ import annotations

import platform
from pathlib import Path

import psutil
import torch

from gankit.errors import UserError
from gankit.model import Machine


def choose_device(name: str) -> str:
    """ "cpu", "cuda" or "mps" for one of these or "auto" (the fastest available). Raises UserError for another."""
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return "cuda" if there["cuda"] else "mps" if there["mps"] else "cpu"
    if name not in there:
        raise UserError(f"--device {name}: it must be auto, cpu, cuda or mps")
    if not there[name]:
        usable = ", ".join(other for other, usable in there.items() if usable)
        raise UserError(f"--device {name}: torch {torch.__version__} finds none here; usable: {usable}")
    return name


def machine_of(device: str) -> Machine:
    """The machine, for `auto` settings."""
    if device == "cuda":
        return Machine(device, fast_bf16=torch.cuda.get_device_capability()[0] >= 8)
    return Machine(device, fast_bf16=device == "cpu" and _cpu_has("avx512_bf16", "amx_bf16"))


def describe(device: str) -> str:
    """The device in words: its name, and the number of threads on a CPU."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    if device == "mps":
        return f"{platform.machine()} GPU (MPS)"
    threads = torch.get_num_threads()
    return f"{_cpu_name()}, {threads} thread{'s' * (threads > 1)}"


def peak_memory(device: str) -> int | None:
    """The peak memory in bytes: torch's on a CUDA device, else this process's. None if unknown."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")  # `getrusage` also counts the memory of the parent process
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


def memory(device: str) -> int:
    """The memory in bytes: of a CUDA device, else of this machine."""
    return torch.cuda.mem_get_info()[1] if device == "cuda" else psutil.virtual_memory().total


def _cpuinfo(key: str) -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def _cpu_name() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpu_has(*flags: str) -> bool:
    return any(flag in _cpuinfo("flags").split() for flag in flags)
