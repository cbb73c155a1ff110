"""Who makes the models: mobilellm, mlx-lm and llama.cpp, each a process whose time and memory are measured."""
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from peers.llama_cpp import LlamaCpp

HERE = Path(__file__).resolve().parent
MEASURED = HERE.parent / "peers" / "measured.py"
TIMEOUT_S = 4 * 3600


class Failed(Exception):
    """A step that did not work; the text says how."""


def measured(argv, prefix=(), env=None):
    """The report of peers/measured.py. Throws Failed when the process fails."""
    command = [*prefix, sys.executable, MEASURED, "--timeout", TIMEOUT_S, "--", *argv]
    done = subprocess.run([str(arg) for arg in command], env={**os.environ, **(env or {})}, stdout=subprocess.PIPE,
                          text=True)
    if done.returncode != 0:
        raise Failed(f"measuring failed with status {done.returncode}")
    report = json.loads(done.stdout)
    if report["status"] != 0:
        raise Failed(f"status {report['status']}: {report['errors'].strip()[-300:]}")
    return report


class Mobilellm:
    name = "mobilellm"

    def __init__(self, program):
        self.program = program

    def setup(self, setup):
        if not self.program.is_file():
            raise SystemExit(f"bench/quality: {self.program} is not there; build it (tools/build_release)")

    def version(self):
        return subprocess.run([self.program, "--version"], capture_output=True, text=True).stdout.split("\n")[0]

    def commands(self, row, source, out, calibration):
        text = [arg for file in calibration for arg in ("--calibration", file)]
        return [[self.program, "quantize", source, "--output", out, *row.flags, *text]]


class MlxLm:
    name = "mlx-lm"

    def __init__(self, cache):
        self.python = cache / "venv-mlx" / "bin" / "python"

    def setup(self, setup):
        if not self.python.is_file():
            setup.run([sys.executable, "-m", "venv", self.python.parent.parent])
        if not self.version():
            setup.run([self.python, "-m", "pip", "install", "--quiet", "mlx-lm", "mlx[cpu]"])

    def version(self):
        asked = "import importlib.metadata as m; print('mlx_lm-' + m.version('mlx-lm') + ', mlx-' + m.version('mlx'))"
        return subprocess.run([self.python, "-c", asked], capture_output=True, text=True).stdout.strip()

    def commands(self, row, source, out, calibration):
        text = ["--calibration", calibration[0]] if calibration else []
        return [[self.python, HERE / "mlx_quantize.py", source, out, *row.flags, *text]]


class LlamaCppQuantize(LlamaCpp):
    """Of bench/compare's llama.cpp the programs that quantize, from whichever build has them."""
    TOOLS = ("llama-quantize", "llama-imatrix")

    def __init__(self, cache, source_gguf, imatrix):
        super().__init__(cache)
        self.source_gguf, self.imatrix = source_gguf, imatrix

    def built(self, name):
        found = [self.tool(name, isa) for isa in ("", "avx2") if self.tool(name, isa).is_file()]
        return found[0] if found else None

    def setup(self, setup):
        if all(self.built(name) for name in self.TOOLS):
            return
        self.unpack(setup)
        self.build(setup, "", self.TOOLS)

    def commands(self, row, source, out, calibration):
        commands = []
        if row.calibrated and not self.imatrix.is_file():
            commands.append([self.built("llama-imatrix"), "-m", self.source_gguf, "-f", calibration[0], "-o", self.imatrix,
                             "--chunks", 128, "-c", 512, "--no-ppl"])
        text = ["--imatrix", self.imatrix] if calibration else []
        commands.append([self.built("llama-quantize"), *text, self.source_gguf, out, *row.flags])
        return commands


def make(maker, row, source, out, calibration, prefix=()):
    """Makes the model of a row, calibrated with a list of files, unless it is there already. What that took or None."""
    if out.exists():
        return None
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name("part-" + out.name)
    shutil.rmtree(part, ignore_errors=True)
    part.unlink(missing_ok=True)
    effort = {"wall_s": 0.0, "cpu_s": 0.0, "peak_mb": 0.0, "others_cores": 0.0}
    for argv in maker.commands(row, source, part, calibration):
        report = measured(argv, prefix, {"HF_HUB_OFFLINE": "1"})
        for key in ("wall_s", "cpu_s"):
            effort[key] += report[key]
        for key in ("peak_mb", "others_cores"):
            effort[key] = max(effort[key], report[key])
    part.rename(out)
    return effort
