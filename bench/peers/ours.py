"""mobilellm itself, through `mobilellm bench`."""
import json
import os
import subprocess

from .engine import Command, Engine


OWN_BITS, OWN_GROUP = 4, 64  # of every matrix, the output projection too: 4.5 bits per weight


class Ours(Engine):
    """On the file that the peers read."""

    name = "mobilellm"

    def __init__(self, cache, program):
        super().__init__(cache)
        self.program = program

    def ready(self):
        return self.program.is_file()

    def version(self):
        return subprocess.run([self.program, "--version"], capture_output=True, text=True).stdout.split("\n")[0]

    def command(self, test, model):
        env = {"MOBILELLM_ISA": test.isa} if test.isa else {}
        threads = [] if test.threads is None else ["--threads", test.threads]
        if test.kind == "start":
            # About 16 tokens, and the one after them.
            prompt = "One two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
            return Command([self.program, "generate", "--model-path", model, "--prompt", prompt,
                            "--disable-chat-template", "--temperature", 0, "--max-tokens", 1, *threads], env)
        argv = [self.program, "bench", "--model-path", model, "--no-limits", "--json", "--repeat", test.repeat,
                *threads]
        if test.kind == "prefill":
            argv += ["-p", test.tokens, "-n", 0, "--depth", test.depth]
        else:
            argv += ["-p", 0, "-n", test.tokens, "--depth", test.depth, "--batch", test.batch,
                     "--shared-prompt", test.shared]
        return Command(argv, env)

    def values(self, test, output):
        return json.loads(output)[-1]["samples"]

    def limits(self, model):
        """A short test with the machine's limits, for the head of the report; None when it fails."""
        argv = [self.program, "bench", "--model-path", model, "--json", "-p", 0, "-n", 16, "--repeat", 3]
        done = subprocess.run([str(arg) for arg in argv], capture_output=True, text=True)
        if done.returncode != 0:
            return None
        row = json.loads(done.stdout)[-1]
        if "model" in row:  # Results are published: the file's name says enough.
            row["model"] = os.path.basename(row["model"])
        return row


class OursInOwnFormat(Ours):
    """The same shapes in the 4-bit format that `quantize` writes by default."""

    name = f"mobilellm-{OWN_BITS}g{OWN_GROUP}"

    def model(self, shape, bits, path):
        # The real model is there in 4 bits only; to quantize it again would be no fair format.
        return path.with_name(f"{shape}-{OWN_BITS}g{OWN_GROUP}") if bits == 4 and shape != "smollm2" else None

    def prepare(self, shape, bits, path, setup):
        """Makes the model of a shape from its floats."""
        out = self.model(shape, bits, path)
        if out is not None and not out.is_dir():
            setup.run([self.program, "quantize", "--model-path", path.with_name(f"{shape}-f16.gguf"), "--output", out,
                       "--bits", OWN_BITS, "--group-size", OWN_GROUP, "--method", "rtn"])
