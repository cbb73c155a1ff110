"""Tests of bench/compare without any peer: medians, ratios, merging, measuring a process."""
import json
import subprocess
import sys
import unittest
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(BENCH))

from peers import results  # noqa: E402
from peers.llama_cpp import LlamaCpp  # noqa: E402
from peers.rows import ROWS, SHAPES, Row, Test  # noqa: E402


def runs(*values):
    return [{"value": value, "peak_mb": 1.0, "others_cores": 0.02, "wall_s": 1.0} for value in values]


def measured(*argv):
    done = subprocess.run([sys.executable, BENCH / "peers/measured.py", *argv], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


class ResultTest(unittest.TestCase):
    def make(self, unit, **engines):
        result = results.Result(Row("row", Test("decode", 4), unit=unit), "140m", ("ours", "own"))
        for name, values in engines.items():
            result.add(name, runs(*values))
        return result

    def test_ratio_is_to_the_best_peer_by_medians(self):
        result = self.make("tok/s", ours=[30, 10, 20], slow=[5, 5, 5], fast=[8, 100, 10])
        self.assertEqual(result.best_peer(), "fast")
        self.assertEqual(result.ratio("ours"), 2.0)

    def test_no_engine_of_ours_is_a_peer(self):
        result = self.make("tok/s", ours=[20], own=[30], peer=[10])
        self.assertEqual(result.best_peer(), "peer")
        self.assertEqual(result.ratio("own"), 3.0)

    def test_less_is_better_for_seconds_and_memory(self):
        result = self.make("s", ours=[0.5], slow=[2.0], fast=[1.0])
        self.assertEqual(result.best_peer(), "fast")
        self.assertEqual(result.ratio("ours"), 2.0)

    def test_no_ratio_without_a_peer(self):
        self.assertIsNone(self.make("tok/s", ours=[1]).ratio("ours"))

    def test_the_table_marks_the_best_peer_and_failures(self):
        result = self.make("tok/s", ours=[20], fast=[10])
        result.errors["slow"] = "status 1"
        line = results.table([result], ["ours", "fast", "slow"])[-1]
        self.assertIn("| 20.0 (2.00 x) | **10.0** | failed |", line)

    def test_the_document_tells_how_many_runs_count(self):
        facts = {"date": "2026-01-01", "cpu": "c", "cores": 2, "cpu_family_model": "1/2", "isa": ["avx2"],
                 "memory_gb": 8, "system": "s", "compiler": "c++", "commit": "abc", "limits": None}
        both = [self.make("tok/s", ours=[1, 2, 3]), self.make("tok/s", ours=[1])]
        text = results.document(facts, {"ours": "1"}, both, ["ours"])
        self.assertIn("medians of 1 to 3 runs", text)

    def test_new_results_replace_older_ones_of_the_same_row(self):
        old, new = self.make("tok/s", ours=[1]), self.make("tok/s", ours=[2])
        self.assertEqual(results.merge([old], [new]), [new])

    def test_json_keeps_every_run(self):
        result = self.make("tok/s", ours=[1, 3], peer=[2])
        again = results.Result.from_json(json.loads(json.dumps(result.as_json())), result.row, ("ours", "own"))
        self.assertEqual(again.as_json(), result.as_json())


class RowsTest(unittest.TestCase):
    def test_names_are_unique_and_shapes_known(self):
        self.assertEqual(len({row.name for row in ROWS}), len(ROWS))
        for row in ROWS:
            self.assertLessEqual(set(row.shapes), set(SHAPES))


class LlamaCppTest(unittest.TestCase):
    def test_the_last_test_of_the_output_counts(self):
        output = 'noise\n{"n_prompt": 64, "samples_ts": [1.0]}\n{"n_prompt": 512, "samples_ts": [5.0, 6.0]}\n'
        self.assertEqual(LlamaCpp(Path()).values(Test("prefill", 512), output), [5.0, 6.0])

    def test_batches_report_their_decoding_speed(self):
        output = '{"pl": 16, "speed_pp": 9.0, "speed_tg": 7.0}\n'
        self.assertEqual(LlamaCpp(Path()).values(Test("decode", 16, batch=16), output), [7.0])


class MeasuredTest(unittest.TestCase):
    def test_output_status_and_cores(self):
        code = "import os; print(len(os.sched_getaffinity(0))); raise SystemExit(3)"
        report = measured("--cpus", "0", "--", sys.executable, "-c", code)
        self.assertEqual((report["output"], report["status"]), ("1\n", 3))
        self.assertGreater(report["peak_mb"], 1)
        self.assertGreater(report["wall_s"], 0)

    def test_memory_is_the_child_s_own(self):
        report = measured("--", sys.executable, "-c", "x = bytearray(200_000_000); x[::4096] = b'1' * len(x[::4096])")
        self.assertGreater(report["peak_mb"], 190)
        self.assertLess(report["peak_mb"], 300)

    def test_a_process_that_hangs_is_ended(self):
        self.assertEqual(measured("--timeout", "0.2", "--", "sleep", "60")["status"], "timeout")

    def test_the_busy_program_ends_and_is_not_counted(self):
        report = measured("--busy", "--", "sleep", "0.3")
        self.assertEqual(report["status"], 0)


if __name__ == "__main__":
    unittest.main()
