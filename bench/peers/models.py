"""The model files that all engines read: random weights of the shapes, and the real SmolLM2-135M."""
from pathlib import Path

SUFFIX = {4: "Q4_0", 8: "Q8_0", 16: "BF16"}
MAKER = Path(__file__).with_name("make_shape.py")


class Models:
    def __init__(self, folder: Path, default_model: Path):
        self.folder = folder
        self.default_model = default_model

    def path(self, shape: str, bits: int) -> Path:
        if shape == "smollm2":
            return self.default_model  # Q4_1
        return self.folder / f"{shape}-{SUFFIX[bits]}.gguf"

    def prepare(self, shape, bits, setup, python, llama_cpp):
        out = self.path(shape, bits)
        if out.is_file():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        source = self.folder / f"{shape}-f16.gguf"
        if not source.is_file():
            part = source.with_suffix(".part")
            setup.run([python, MAKER, shape, self.default_model, part])
            part.rename(source)
        part = out.with_suffix(".part")
        # Its own choice of the head's format: Q6_K, or Q8_0 where the width does not divide by 256.
        llama_cpp.quantize(setup, source, part, SUFFIX[bits])
        part.rename(out)
