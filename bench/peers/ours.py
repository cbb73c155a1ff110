"""mobilellm itself, through `mobilellm bench`."""
import json
import os
import subprocess

from .engine import Command, Engine


class Ours(Engine):
    name = "mobilellm"

    def __init__(self, cache, program, four_bit=""):
        super().__init__(cache)
        self.program = program
        self.four_bit = four_bit  # "FORMAT" or "FORMAT:HEAD_FORMAT" instead of the peers' 4-bit file; "" is that file

    def ready(self):
        return self.program.is_file()

    def version(self):
        return subprocess.run([self.program, "--version"], capture_output=True, text=True).stdout.split("\n")[0]

    def weights(self, test, model):
        """The flags that choose the weights; a start always reads the file."""
        four_bit_shape = model.stem.removesuffix("-Q4_0")
        if not self.four_bit or test.kind == "start" or four_bit_shape == model.stem:
            return ["--model-path", model]
        form, _, head = self.four_bit.partition(":")
        return ["--shape", four_bit_shape, "--format", form, *(["--head-format", head] if head else [])]

    def command(self, test, model):
        env = {"MOBILELLM_ISA": test.isa} if test.isa else {}
        threads = [] if test.threads is None else ["--threads", test.threads]
        if test.kind == "start":
            # About 16 tokens, and the one after them.
            prompt = "One two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
            return Command([self.program, "generate", "--model-path", model, "--prompt", prompt,
                            "--disable-chat-template", "--temperature", 0, "--max-tokens", 1, *threads], env)
        argv = [self.program, "bench", *self.weights(test, model), "--no-limits", "--json",
                "--repeat", test.repeat, *threads]
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
