"""Facts about the machine and the program that belong beside every number."""
import datetime
import os
import platform
import re
import subprocess
from pathlib import Path


def first_line(command, folder=None):
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.split("\n")[0].strip()


def cpu_info():
    info = {}
    for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines():
        key, _, value = line.partition(":")
        info[key.strip()] = value.strip()
    return info


def memory_gb():
    found = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    return round(int(found.group(1)) * 1024 / 1e9, 1)


def instruction_sets(flags):
    known = ("avx2", "fma", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16",
             "avx512vbmi", "amx_int8", "amx_bf16")
    return [name for name in known if name in flags.split()]


def facts(root: Path):
    info = cpu_info()
    name = info.get("model name", platform.machine())
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": name,
        "cpu_family_model": f"{info.get('cpu family', '?')}/{info.get('model', '?')}",
        "cores": len(os.sched_getaffinity(0)),
        "isa": instruction_sets(info.get("flags", "")),
        "memory_gb": memory_gb(),
        "system": f"{platform.system()} {platform.release()}",
        "compiler": first_line(["c++", "--version"]),
        "commit": first_line(["git", "rev-parse", "--short=10", "HEAD"], root),
    }


def file_stem(facts_):
    cpu = re.sub(r"[^a-z0-9]+", "-", facts_["cpu"].lower()).strip("-")
    family = facts_["cpu_family_model"].replace("/", "-")
    return f"{facts_['date']}-{cpu}-{family}-{facts_['commit'] or 'unknown'}"
