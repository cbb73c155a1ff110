"""The rows of the comparison: what is measured, on which models, and the ratio to reach."""
from dataclasses import dataclass, replace
from typing import Optional, Tuple

SHAPES = ("950m", "360m", "140m", "smollm2")  # smollm2 is the real SmolLM2-135M, the others have random weights


@dataclass(frozen=True)
class Test:
    """One question to an engine. `repeat` is inside one process; None for threads means the engine's own choice."""

    kind: str  # "prefill", "decode" or "start": a process from its start to the logits after the prompt
    tokens: int
    depth: int = 0
    batch: int = 1
    shared: int = 0
    threads: Optional[int] = 2
    repeat: int = 1
    isa: str = ""  # "" is the best of the machine, or "avx2"
    cpus: str = ""  # the cores that the process may use, as taskset writes them
    busy: bool = False  # another program spins on core 0 meanwhile

    @property
    def name(self) -> str:
        if self.kind == "start":
            return f"start, pp{self.tokens}"
        text = f"{'pp' if self.kind == 'prefill' else 'tg'}{self.tokens}"
        text += f"x{self.batch}" if self.batch > 1 else ""
        return text + (f"@{self.depth}" if self.depth else "")


@dataclass(frozen=True)
class Row:
    """A line of the table for each of its shapes. Higher is better for tok/s, lower for seconds and MB."""

    name: str
    test: Test
    bits: int = 4  # 4, 8 or 16 of the weights
    shapes: Tuple[str, ...] = SHAPES
    unit: str = "tok/s"  # or "s", "MB"
    target: str = ""
    one_process: bool = False  # repetitions inside one process, because it takes minutes to come to the measurement
    quick: bool = False  # part of --quick


# Short tests repeat inside a process, and their median is its value: the first repetition still warms caches.
DECODE = Test("decode", 64, repeat=3)
DEEP = Test("decode", 32, depth=4096)
DEEPEST = Test("decode", 16, depth=16384)
BATCH = Test("decode", 16, batch=16, shared=512)
PREFILL = Test("prefill", 512, repeat=3)

ROWS = (
    Row("decode-4bit", DECODE, target="1.3 to 1.8 x, 90 % of bandwidth", quick=True),
    Row("decode-8bit", DECODE, bits=8, shapes=("950m", "140m"), target="92 % of bandwidth"),
    Row("decode-bf16", DECODE, bits=16, shapes=("950m", "140m"), target="92 % of bandwidth"),
    Row("depth-4096", DEEP, target="2.5 x (950m), 3 x (140m), 85 % of bandwidth"),
    Row("depth-16384", DEEPEST, shapes=("950m", "140m"), target="85 % of bandwidth", one_process=True),
    Row("batch-16", BATCH, target="3 x"),
    Row("batch-64", replace(BATCH, batch=64), target="3 x"),
    Row("prefill-512", PREFILL, target="1.2 (AVX2), 1.5 (AVX-512), 2.5 x (AMX)", quick=True),
    Row("prefill-4096", replace(PREFILL, tokens=4096, repeat=1), target="1.2 (AVX2), 1.5 (AVX-512), 2.5 x (AMX)"),
    Row("prefill-avx2", replace(PREFILL, isa="avx2"), shapes=("950m", "140m"), target="1.2 x"),
    Row("cold-start", Test("start", 16), unit="s", target="0.3 s and half of the peer's", quick=True),
    Row("busy-core", replace(DECODE, busy=True), target="75 % of the fair share"),
    Row("busy-core-prefill", replace(PREFILL, busy=True), shapes=("140m",), target="75 % of the fair share"),
    Row("one-thread", replace(DECODE, threads=1), target="as the roofline says"),
    Row("one-thread-prefill", replace(PREFILL, threads=1), shapes=("140m",), target="as the roofline says"),
    Row("one-core", replace(DECODE, threads=None, cpus="0"), target="as one thread"),
    Row("memory", replace(DEEP, tokens=16), shapes=("950m", "140m"), unit="MB", target="weights + KV + 100 MB"),
)
