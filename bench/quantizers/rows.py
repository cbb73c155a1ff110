"""The table of what bench/quality makes and judges: a row is a way to store the model, or to compute with it."""
from dataclasses import dataclass, field
from typing import List


@dataclass(frozen=True)
class Row:
    name: str
    engine: str  # mobilellm, mlx-lm, llama.cpp
    method: str  # what the table says
    flags: List[str] = field(default_factory=list, hash=False)
    calibrated: bool = False  # needs text
    trained: bool = False  # gains from more of it
    gguf: bool = False  # a file, not a folder
    of: str = ""  # No model of its own: the row (or "reference") that is run with `flags` of compare.
    quick: bool = False


def ours(name, method, *flags, **more):
    return Row(f"ours-{name}", "mobilellm", method, list(flags), **more)


def affine(bits, method, quick=False):
    return ours(f"{method}-{bits}", f"{method}, {bits} bits, groups of 64", "--bits", str(bits), "--group-size", "64",
                "--method", method, calibrated=method != "rtn", trained=method == "dwq", quick=quick)


def block(name, method="fit", quick=False):
    return ours(f"{name.lower()}-{method}", f"{name}, {method}", "--type", name, "--method", method, calibrated=True,
                gguf=True, quick=quick)


def target(bpw, quick=False):
    return ours(f"mixed-{bpw}", f"best of all, {bpw} bits per weight", "--target-bpw", str(bpw), calibrated=True,
                trained=True, quick=quick)


def mixed(bpw, method):
    return ours(f"{method}-mixed-{bpw}", f"{method} alone, {bpw} bits per weight", "--target-bpw", str(bpw), "--method",
                method, calibrated=True)


def mlx(name, method, *flags, **more):
    return Row(f"mlx-{name}", "mlx-lm", method, list(flags), **more)


def llama(name, imatrix, quick=False):
    return Row(f"llama-{name.lower()}{'-imatrix' if imatrix else ''}", "llama.cpp",
               name + (", imatrix" if imatrix else ""), [name], calibrated=imatrix, gguf=True, quick=quick)


ROWS = [
    *[affine(bits, method, quick=bits == 4) for method in ("rtn", "fit", "gptq", "yaqa") for bits in (3, 4, 6)],
    affine(4, "dwq"),
    *[target(bpw, quick=bpw == 4.5) for bpw in (3.5, 4.0, 4.5, 5.0, 6.5)],
    mixed(4.5, "gptq"), *[mixed(bpw, "yaqa") for bpw in (3.5, 4.0, 4.5, 5.0, 6.5)],
    block("Q4_0"), block("IQ4_NL"), block("Q4_K"), block("Q5_K"),
    ours("int8-activations", "the 4-bit model of gptq, activations in 8 bits", "--a-kv", "f16", "--b-arithmetic",
         "default", of="ours-gptq-4"),
    ours("kv-f16", "the float model, keys and values as f16", "--b-kv", "f16", of="reference"),
    ours("kv-q8", "the float model, keys and values in 8 bits", "--b-kv", "q8", of="reference", quick=True),
    *[mlx(f"rtn-{bits}", f"-q, {bits} bits, groups of 64", "--bits", str(bits), quick=bits == 4) for bits in (3, 4, 6)],
    mlx("mixed_3_4", "recipe mixed_3_4", "--recipe", "mixed_3_4"),
    mlx("gptq-4", "gptq, 4 bits, embedding too", "--method", "gptq", "--samples", "16", calibrated=True),
    mlx("dynamic-4.0", "dynamic_quant 3/4 bits, target 4.0", "--method", "dynamic", "--bits", "3", "--high-bits", "4",
        "--target-bpw", "4.0", "--samples", "8", calibrated=True),
    mlx("dynamic-4.5", "dynamic_quant 4/5 bits, target 4.5", "--method", "dynamic", "--target-bpw", "4.5", "--samples",
        "8", calibrated=True),
    mlx("dynamic-5.0", "dynamic_quant 4/5 bits, target 5.0", "--method", "dynamic", "--target-bpw", "5.0", "--samples",
        "8", calibrated=True),
    llama("Q4_0", False, quick=True), llama("Q4_0", True), llama("IQ4_NL", True), llama("Q4_K_M", True, quick=True),
    llama("Q3_K_M", True), llama("Q5_K_M", True), llama("Q6_K", True),
]
