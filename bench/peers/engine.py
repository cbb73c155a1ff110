"""What every engine offers to the comparison: setting itself up, and a command for a test."""
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List


@dataclass
class Command:
    argv: List
    env: Dict[str, str] = field(default_factory=dict)


class Engine:
    name = ""

    def __init__(self, cache: Path):
        self.cache = cache

    def setup(self, setup):
        """Installs what is missing."""

    def ready(self) -> bool:
        return True

    def version(self) -> str:
        return ""

    def model(self, shape: str, bits: int, path: Path):
        """What the engine is given instead of the file `path`, or None when it cannot run it."""
        return path

    def command(self, test, model) -> Command:
        """The process that answers a test; None when the engine cannot."""
        raise NotImplementedError

    def values(self, test, output: str) -> List[float]:
        """Tokens per second of each repetition, from the process's output."""
        raise NotImplementedError
