"""OpenVINO GenAI from its Python package; it reads the same GGUF files itself."""
import json
from pathlib import Path

from .engine import Command, Engine

DRIVER = Path(__file__).with_name("openvino_run.py")
PACKAGES = ("openvino-genai", "gguf", "numpy")  # the last two also write the models with random weights


class OpenVinoGenAi(Engine):
    name = "openvino"

    def python(self):
        return self.cache / "venv" / "bin" / "python"

    def packages(self):
        return sorted((self.cache / "venv" / "lib").glob("python3*/site-packages/openvino_genai-*.dist-info"))

    def setup(self, setup):
        if not self.packages():
            setup.run([self.python(), "-m", "pip", "install", "--quiet", *PACKAGES])

    def ready(self):
        return bool(self.packages())

    def version(self):
        return self.packages()[-1].name.removesuffix(".dist-info") if self.packages() else ""

    def model(self, shape, bits, path):
        # Its reader knows f16 but not bf16; it computes in bf16 either way.
        return path.with_name(f"{shape}-f16.gguf") if bits == 16 else path

    def command(self, test, model):
        argv = [self.python(), DRIVER, model, "--kind", test.kind, "--tokens", test.tokens, "--depth", test.depth,
                "--batch", test.batch, "--shared", test.shared, "--repeat", test.repeat]
        if test.threads is not None:
            argv += ["--threads", test.threads]
        if test.isa == "avx2":
            # bf16 needs AVX-512, and products with int8 activations fail to start without VNNI.
            return Command([*argv, "--exact"], {"ONEDNN_MAX_CPU_ISA": "AVX2"})
        return Command(argv)

    def values(self, test, output):
        return json.loads(output.splitlines()[-1])["tps"]
