"""The steps of a set-up: what the peers need, in one folder."""
import fcntl
import subprocess
import sys


def say(text):
    print(text, file=sys.stderr, flush=True)


class Setup:
    """Runs the steps of a set-up, each behind an optional command such as nice."""

    def __init__(self, cache, prefix):
        self.prefix = prefix
        self.python = cache / "venv" / "bin" / "python"
        self.cache = cache

    def run(self, argv):
        argv = [str(arg) for arg in argv]
        say("+ " + " ".join(argv))
        done = subprocess.run(self.prefix + argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            say(done.stdout[-4000:])
            raise SystemExit(f"set-up failed with status {done.returncode}: {' '.join(argv)}")

    def make_environment(self):
        self.cache.mkdir(parents=True, exist_ok=True)
        # Held until this process ends: two set-ups in one folder would disturb each other.
        self.lock = open(self.cache / "lock", "w")
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        if not self.python.is_file():
            self.run([sys.executable, "-m", "venv", self.cache / "venv"])
