"""Peaks: dense rates of known GPUs, by the exact name that the driver gives.

Rates are those of NVIDIA's data sheets. Sheets since Hopper print the rate with 2:4 sparsity: it is
halved here. FP16 and BF16 rates are those with float32 accumulation. A device that is not in the
table has no peak: a guess would be printed as a measurement.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

PEAKS_VERSION: Final = 1

_LIGHTNING: Final = "data sheet, as in pytorch-lightning fabric/utilities/throughput.py"
_TITAN: Final = "data sheet, as in torchtitan tools/utils.py"


@dataclass(frozen=True, slots=True)
class Peak:
    """Dense peak rates of one GPU.

    Attributes:
        fp16_tflops: tensor cores, FP16 products, float32 sums.
        bf16_tflops: the same for BF16; None before Ampere.
        tf32_tflops: None before Ampere.
        fp32_tflops: CUDA cores.
        bandwidth_gb_s: of the memory, 10^9 bytes per second; None if no sheet could be read.
        sm_count: multiprocessors.
        fp16_flop_per_clock_sm: dense FP16 operations per clock and multiprocessor.
        fp32_flop_per_clock_sm: the same of the CUDA cores, two for each.
        source: where the rates are from.
        fp16_sums_tflops: FP16 products with FP16 sums where that is faster (GeForce).
    """

    fp16_tflops: float
    bf16_tflops: float | None
    tf32_tflops: float | None
    fp32_tflops: float
    bandwidth_gb_s: float | None
    sm_count: int
    fp16_flop_per_clock_sm: int
    fp32_flop_per_clock_sm: int
    source: str
    fp16_sums_tflops: float | None = None

    def tflops(self, arithmetic: str) -> float | None:
        """The sheet's rate for the ``arithmetic_of`` a recipe."""
        rates = {
            "fp16": self.fp16_tflops,
            "fp16 sums": self.fp16_sums_tflops or self.fp16_tflops,
            "bf16": self.bf16_tflops,
            "tf32": self.tf32_tflops,
            "fp32": self.fp32_tflops,
        }
        return rates[arithmetic]

    def tflops_at(self, arithmetic: str, sm_clock_mhz: float, sm_count: int) -> float | None:
        """The rate at a measured clock: ``SMs x FLOP per clock and SM x clock``.

        The other tensor-core formats are to FP16 as their rates on the sheet are.
        """
        per_clock = self._flop_per_clock_sm(arithmetic)
        return None if per_clock is None else per_clock * sm_count * sm_clock_mhz * 1e6 / 1e12

    def _flop_per_clock_sm(self, arithmetic: str) -> float | None:
        if arithmetic == "fp32":
            return self.fp32_flop_per_clock_sm
        rate = self.tflops(arithmetic)
        return None if rate is None else self.fp16_flop_per_clock_sm * rate / self.fp16_tflops


def _h100(fp16: float, fp32: float, bandwidth: float, sms: int, source: str) -> Peak:
    return Peak(fp16, fp16, fp16 / 2, fp32, bandwidth, sms, 4096, 256, source)


def _a100(bandwidth: float) -> Peak:
    return Peak(312.0, 312.0, 156.0, 19.5, bandwidth, 108, 2048, 128, "A100 data sheet")


_V100_SXM: Final = Peak(125.0, None, None, 15.7, 900.0, 80, 1024, 128, f"V100 {_LIGHTNING}")
_V100_PCIE: Final = Peak(112.0, None, None, 14.0, 900.0, 80, 1024, 128, f"V100 {_LIGHTNING}")

PEAKS: Final = MappingProxyType(
    {
        "Tesla V100-SXM2-16GB": _V100_SXM,
        "Tesla V100-SXM2-32GB": _V100_SXM,
        "Tesla V100-PCIE-16GB": _V100_PCIE,
        "Tesla V100-PCIE-32GB": _V100_PCIE,
        "Tesla T4": Peak(65.0, None, None, 8.1, 320.0, 40, 1024, 128, f"T4 {_LIGHTNING}"),
        "NVIDIA A100-SXM4-40GB": _a100(1555.0),
        "NVIDIA A100-PCIE-40GB": _a100(1555.0),
        "NVIDIA A100 80GB PCIe": _a100(1935.0),
        "NVIDIA A100-SXM4-80GB": _a100(2039.0),
        "NVIDIA A10": Peak(125.0, 125.0, 62.5, 31.2, 600.0, 72, 1024, 256, f"A10 {_LIGHTNING}"),
        "NVIDIA L4": Peak(121.0, 121.0, 60.0, 30.3, 300.0, 58, 1024, 256, "L4 data sheet, halved"),
        "NVIDIA L40S": Peak(362.0, 362.0, 183.0, 91.6, 864.0, 142, 1024, 256, f"L40S {_TITAN}"),
        "NVIDIA H100 80GB HBM3": _h100(989.4, 67.0, 3350.0, 132, "H100 SXM data sheet, halved"),
        "NVIDIA H100 PCIe": _h100(756.0, 51.0, 2000.0, 114, f"H100 PCIe {_TITAN}"),
        "NVIDIA H100 NVL": _h100(835.0, 60.0, 3900.0, 132, f"H100 NVL {_TITAN}"),
        "NVIDIA H200": _h100(989.4, 67.0, 4800.0, 132, f"H200 SXM {_TITAN}"),
        "NVIDIA B200": Peak(
            2250.0, 2250.0, 1100.0, 75.0, 7700.0, 148, 8192, 256, f"B200, 1000 W; {_TITAN}"
        ),
        "NVIDIA GeForce RTX 3090": Peak(
            71.0, 71.0, 35.6, 35.6, 936.0, 82, 512, 256, "GA102 whitepaper", 142.0
        ),
        "NVIDIA GeForce RTX 4090": Peak(
            165.2, 165.2, 82.6, 82.6, 1008.0, 128, 512, 256, "Ada whitepaper", 330.3
        ),
        "NVIDIA GeForce RTX 5090": Peak(
            209.5, 209.5, 104.8, 104.8, 1792.0, 170, 512, 256, "RTX Blackwell whitepaper", 419.0
        ),
    }
)


def peak_of(device_name: str) -> Peak | None:
    """The row of a device; None for a name that is not in the table, however similar."""
    return PEAKS.get(device_name)
