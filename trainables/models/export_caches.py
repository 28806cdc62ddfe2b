"""Caches of torch that keep what it exported."""

from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv


def forget_exports() -> None:
    """Empty them. In a process that exports model after model, each would keep some megabytes."""
    FakeTensorMode.cache_clear()
    for method in vars(ShapeEnv).values():
        if hasattr(method, "cache_clear"):
            method.cache_clear()
