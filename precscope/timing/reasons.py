"""Why something was not measured, in one line that says what would change it."""

from __future__ import annotations

from typing import Final

NOT_SUPPORTED: Final = "not supported"
PERMISSION_PAGE: Final = "https://developer.nvidia.com/ERR_NVGPUCTRPERM"


class NvmlUnavailable(Exception):
    """NVML, or a part of it, gives nothing here; the message is the reason."""


_BY_CLASS: Final = {
    "NVMLError_LibraryNotFound": (
        "no NVML library here (in a container, give it the driver capability utility)"
    ),
    "NVMLError_DriverNotLoaded": "the NVIDIA driver is not loaded",
    "NVMLError_NoPermission": f"no permission: an administrator can give it, see {PERMISSION_PAGE}",
    "NVMLError_NotSupported": f"{NOT_SUPPORTED} by this device",
    "NVMLError_FunctionNotFound": "the driver is too old for it",
    "NVMLError_NotFound": "NVML knows no such device",
    "NVMLError_GpuIsLost": "the GPU is lost",
}


def why(error: BaseException) -> str:
    """The reason in an error of NVML, or of a pynvml that lacks a name."""
    known = _BY_CLASS.get(type(error).__name__)
    if known is not None:
        return known
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    if isinstance(error, AttributeError) and "has no attribute" in text:
        return f"nvidia-ml-py is too old: {text.rpartition('attribute ')[2]} is missing"
    if isinstance(error, TypeError):
        return f"nvidia-ml-py is too old: {text}"
    return text
