"""llama.cpp, built for this machine from the source package of llama-cpp-python."""
import json
from pathlib import Path

from .engine import Command, Engine

# Debian 12's gcc drops the stores before _tile_loadconfig, and the loading instruction faults on CPUs with AMX.
TILE_LOAD = "    _tile_loadconfig(&tc);"
TILE_FIX = '    asm volatile("" :: "r"(&tc) : "memory");\n'
TOOLS = ("llama-bench", "llama-batched-bench", "llama-quantize", "llama-perplexity")
BUILDS = {
    "": ["-DGGML_NATIVE=ON"],
    "avx2": ["-DGGML_NATIVE=OFF", "-DGGML_AVX=ON", "-DGGML_AVX2=ON", "-DGGML_FMA=ON", "-DGGML_F16C=ON",
             "-DGGML_BMI2=ON"],
}
# Its threads spin; unpinned they may share one core.
PINNED = {"OMP_PROC_BIND": "true", "OMP_PLACES": "cores"}


class LlamaCpp(Engine):
    name = "llama.cpp"

    def tool(self, name, isa=""):
        return self.cache / f"llama.cpp-{isa or 'native'}" / "bin" / name

    def setup(self, setup):
        self.unpack(setup)
        for isa in BUILDS:
            if not all(self.tool(tool, isa).is_file() for tool in TOOLS):
                self.build(setup, isa, TOOLS)

    def source(self):
        return self.cache / "llama.cpp"

    def unpack(self, setup):
        if self.source().is_dir():
            return
        packages = self.cache / "packages"
        setup.run([setup.python, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "llama-cpp-python",
                   "--dest", packages, "llama-cpp-python"])
        archive = sorted(packages.glob("llama_cpp_python-*.tar.gz"))[-1]
        unpacked = self.cache / "unpacked"
        setup.run([setup.python, "-m", "tarfile", "-e", archive, unpacked])
        found = next(unpacked.glob("*/vendor/llama.cpp"))
        (found / ".git").unlink(missing_ok=True)  # a dangling pointer that makes ninja configure for ever
        tiles = found / "ggml/src/ggml-cpu/amx/mmq.cpp"
        tiles.write_text(tiles.read_text().replace(TILE_LOAD, TILE_FIX + TILE_LOAD))
        (self.cache / "llama.cpp.version").write_text(archive.name.removesuffix(".tar.gz") + "\n")
        found.rename(self.source())

    def build(self, setup, isa, tools):
        build = self.tool("", isa).parent
        setup.run(["cmake", "-S", self.source(), "-B", build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
                   "-DBUILD_SHARED_LIBS=OFF", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_SERVER=OFF",
                   "-DLLAMA_BUILD_UI=OFF", *BUILDS[isa]])
        setup.run(["cmake", "--build", build, "--target", *tools])

    def ready(self):
        return all(self.tool(tool, isa).is_file() for isa in BUILDS for tool in TOOLS)

    def version(self):
        file = self.cache / "llama.cpp.version"
        return file.read_text().strip() if file.is_file() else ""

    def quantize(self, setup, source: Path, out: Path, kind: str):
        setup.run([self.tool("llama-quantize"), source, out, kind])

    def command(self, test, model):
        threads = [] if test.threads is None else ["-t", test.threads]
        env = {} if test.threads is None else PINNED
        if test.batch > 1:
            total = test.shared + test.batch * test.tokens
            return Command([self.tool("llama-batched-bench", test.isa), "-m", model, "-c", -(-total // 256) * 256,
                            "-b", 2048, "-ub", 512, "-npp", test.shared, "-ntg", test.tokens, "-npl", test.batch,
                            "-pps", "-kvu", "--output-format", "jsonl", *threads], env)
        argv = [self.tool("llama-bench", test.isa), "-m", model, "-o", "jsonl", "-r", test.repeat, *threads]
        if test.kind == "start":
            return Command([*argv, "-p", test.tokens, "-n", 0, "--no-warmup"], env)
        # Its own warm-up repeats the whole test; a short prompt first is enough and is not counted.
        if test.kind == "prefill":
            return Command([*argv, "-p", f"64,{test.tokens}", "-n", 0, "--no-warmup"], env)
        warm_up = [] if test.depth == 0 else ["--no-warmup"]
        return Command([*argv, "-p", 0, "-n", test.tokens, "-d", test.depth, *warm_up], env)

    def values(self, test, output):
        rows = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        if test.batch > 1:
            return [rows[-1]["speed_tg"]]
        return [float(value) for value in rows[-1]["samples_ts"]]
