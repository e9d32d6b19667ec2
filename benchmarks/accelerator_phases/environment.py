"""Versions, the device, and how fast it multiplies and copies."""

import importlib.metadata
import os
import platform

import jax
import jax.numpy as jnp

from benchmarks.accelerator_phases.phase import Phase, seconds_of
from clim_jax.pretrain.counted_step import peak_flops

_PACKAGES = (
  *("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scipy", "torch"),
  *("torchvision", "timm", "tensorflow", "tensorflow-datasets", "clu", "pillow"),
)


def measure(phase: Phase) -> None:
  device = jax.devices()[0]
  phase.report("versions", python=platform.python_version(), **_versions())
  phase.report(
    "device",
    kind=device.device_kind,
    platform=device.platform,
    devices=jax.device_count(),
    cores=os.cpu_count(),
    memory_gib=_limit_gib(device),
    flags=os.environ.get("XLA_FLAGS", ""),
  )
  side = phase.sized(8192, 512)
  for dtype in ("bfloat16", "float32"):
    with phase.attempt(f"product {dtype}"):
      x = jnp.ones((side, side), dtype)
      seconds = seconds_of(lambda x=x: _product(x), repeats=10)
      flops, peak = 2 * side**3 / seconds, peak_flops(device.device_kind)
      phase.report(
        f"product {dtype}",
        side=side,
        seconds=seconds,
        tflops=flops / 1e12,
        share_of_bfloat16_peak=peak and flops / peak,
      )
  with phase.attempt("copy"):
    x = jnp.zeros(phase.sized(2**28, 2**22), jnp.float32)
    seconds = seconds_of(lambda: _copy(x), repeats=10)
    phase.report("copy", gib=x.nbytes / 2**30, gb_per_second=2e-9 * x.nbytes / seconds)


def _versions() -> dict[str, str | None]:
  found = {}
  for name in _PACKAGES:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      found[name] = None
  return found


def _limit_gib(device: jax.Device) -> float | None:
  limit = (device.memory_stats() or {}).get("bytes_limit")
  return None if limit is None else limit / 2**30


@jax.jit
def _product(x: jax.Array) -> jax.Array:
  return x @ x


@jax.jit
def _copy(x: jax.Array) -> jax.Array:
  return x + 1
