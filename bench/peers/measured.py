"""Runs one command and prints a JSON object: its output, wall time, peak memory, and what others took of the processor.

    measured.py [--cpus LIST] [--busy] [--timeout S] -- COMMAND...

A process of its own because a child's peak memory starts at its parent's size. Standard library only.
"""
import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

TICKS = os.sysconf("SC_CLK_TCK")


def machine_seconds():
    """Processor time that all processes, interrupts and the host took since boot."""
    with open("/proc/stat") as file:
        user, nice, system, idle, iowait, irq, softirq, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / TICKS


def cpu_list(text):
    cpus = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        cpus.update(range(int(first), int(last or first) + 1))
    return cpus


def spin(cpu):
    """A program in a session of its own that keeps a core busy."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.sched_setaffinity(0, {cpu})
        while True:
            pass
    return pid


def wait_limited(pid, seconds):
    """Status and resource usage of a child, which is killed when its time is over."""
    end = time.monotonic() + seconds
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), usage
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            _, _, usage = os.wait4(pid, 0)
            return "timeout", usage
        time.sleep(0.002)


def run(options):
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        busy = spin(min(os.sched_getaffinity(0))) if options.busy else None
        if options.cpus:
            os.sched_setaffinity(0, cpu_list(options.cpus))
        try:
            before, start = machine_seconds(), time.monotonic()
            child = subprocess.Popen(options.command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
            status, usage = wait_limited(child.pid, options.timeout)
            child.returncode = 0  # waited for here, not by subprocess
            wall = time.monotonic() - start
            used = machine_seconds() - before - usage.ru_utime - usage.ru_stime
        finally:
            if busy:
                os.kill(busy, signal.SIGKILL)
                _, _, busy_usage = os.wait4(busy, 0)
        if busy:
            used -= busy_usage.ru_utime + busy_usage.ru_stime
        out.seek(0)
        err.seek(0)
        return {
            "status": status,
            "output": out.read().decode("utf-8", "replace"),
            "errors": err.read().decode("utf-8", "replace")[-2000:],
            "wall_s": wall,
            "cpu_s": usage.ru_utime + usage.ru_stime,
            "peak_mb": usage.ru_maxrss / 1024,
            "others_cores": max(0.0, used / wall),
        }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cpus", default="")
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--timeout", type=float, default=900)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if options.command[:1] == ["--"]:
        options.command = options.command[1:]
    json.dump(run(options), sys.stdout)


if __name__ == "__main__":
    main()
