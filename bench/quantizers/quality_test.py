"""Tests of bench/quality without any peer: rows, tables, answers, the change of basis."""
import re
import sys
import tempfile
import unittest
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(BENCH))

from quantizers import judge, makers, table  # noqa: E402
from quantizers.rows import ROWS, Row  # noqa: E402

try:
    import numpy as np
    from quantizers import reference_model
except ImportError:
    np = None


def result(row, bits, kl, engine="mobilellm", of="", **more):
    text = {"path": "test-one.txt", "kl_mean": kl, "kl_error": kl / 10, "kl_p99": 10 * kl, "ppl_ratio": 1.1,
            "top1_agreement": 0.9, "positions": 512}
    compare = {"a": {}, "b": {"bits_per_weight": bits}, "texts": [text], "total": {**text, "positions": 512}}
    return {"row": row, "engine": engine, "method": "how", "of": of, "compare": compare,
            "effort": {"cpu_s": 3.2, "peak_mb": 100}, **more}


class RowsTest(unittest.TestCase):
    def test_names_differ_and_make_sense(self):
        names = [row.name for row in ROWS]
        self.assertEqual(len(names), len(set(names)))
        for row in ROWS:
            self.assertTrue(re.fullmatch(r"[a-z0-9._-]+", row.name), row.name)
            self.assertIn(row.engine, ("mobilellm", "mlx-lm", "llama.cpp"))
            self.assertTrue(not row.of or row.of == "reference" or row.of in names, row.name)
            self.assertTrue(row.calibrated or not row.trained, row.name)

    def test_every_text_reaches_the_program(self):
        row = next(row for row in ROWS if row.trained)
        command = makers.Mobilellm(Path("mobilellm")).commands(row, "in", "out", ["a.txt", "b.txt"])[0]
        self.assertEqual(command[-4:], ["--calibration", "a.txt", "--calibration", "b.txt"])


class TableTest(unittest.TestCase):
    def test_sorted_by_bits_and_what_computes_otherwise_last(self):
        lines = table.lines([result("c", 3, 0.001, of="a"), result("a", 5, 0.5), result("b", 4, 1.5, "mlx-lm")])
        self.assertEqual([line.split("|")[3].strip() for line in lines[2:]], ["4.000", "5.000", "3.000"])
        self.assertIn("1.50 +- 0.15", lines[2])
        self.assertIn("0.00100 +- 0.00010", lines[4])
        self.assertIn("| KL one |", lines[0])
        self.assertEqual({line.count("|") for line in lines}, {lines[0].count("|")})

    def test_answers_and_failures(self):
        entries = [result("a", 4, 1, answers={"kept": 3, "reference_right": 5}), result("b", 5, 1),
                   {"row": "c", "error": "no such flag"}]
        self.assertIn("3 of 5", table.lines(entries[:2])[2])
        facts = {"date": "d", "cpu": "c", "cores": 2, "isa": ["x"], "memory_gb": 1, "system": "s", "commit": "k"}
        document = table.document(facts, {"mobilellm": "1"}, {"reference": "r", "texts": ["t"], "calibration": ""},
                                  entries)
        self.assertIn("- c: no such flag", document)
        self.assertIn("512 positions", document)
        self.assertNotIn("judged by the program", document)
        self.assertIn("of commit old: d", table.document(facts, {}, {"reference": "r", "texts": [], "calibration": ""},
                                                         [result("d", 4, 1, commit="old")]))

    def test_merge_keeps_the_newest_in_the_order_of_rows(self):
        old, new = [result("b", 4, 1), result("a", 4, 1)], [result("b", 4, 2)]
        merged = table.merge(old, new, ["a", "b", "c"])
        self.assertEqual([entry["row"] for entry in merged], ["a", "b"])
        self.assertEqual(merged[1]["compare"]["total"]["kl_mean"], 2)


class JudgeTest(unittest.TestCase):
    def test_last_number(self):
        self.assertEqual(judge.last_number("It is 1,200.50 euros.\n#### 1,200.5"), "1200.5")
        self.assertEqual(judge.last_number("so -3 remain"), "-3")
        self.assertEqual(judge.last_number("72."), "72")
        self.assertIsNone(judge.last_number("none"))

    def test_count(self):
        questions = [("a", "1"), ("b", "2"), ("c", "3")]
        counts = judge.count_answers(questions, ["1", "5", "3"], ["1", "2", "4"])
        self.assertEqual(counts, {"questions": 3, "right": 2, "reference_right": 2, "kept": 1, "same_as_reference": 1})


class Fake:
    def commands(self, row, source, out, calibration):
        return [[sys.executable, "-c", f"open({str(out)!r}, 'w').write('{row.name}')" if row.name == "good" else "1/0"]]


class MakersTest(unittest.TestCase):
    def test_outputs_appear_complete_or_not_at_all(self):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "models" / "out"
            with self.assertRaises(makers.Failed) as failed:
                makers.make(Fake(), Row("bad", "fake", ""), None, out, [])
            self.assertIn("ZeroDivisionError", str(failed.exception))
            self.assertFalse(out.exists())
            effort = makers.make(Fake(), Row("good", "fake", ""), None, out, [])
            self.assertEqual(out.read_text(), "good")
            self.assertGreater(effort["peak_mb"], 1)
            self.assertGreater(effort["cpu_s"], 0)
            self.assertIsNone(makers.make(Fake(), Row("good", "fake", ""), None, out, []))


@unittest.skipIf(np is None, "numpy is not installed")
class ReferenceTest(unittest.TestCase):
    def test_change_of_basis_keeps_values_of_attention(self):
        config = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "hidden_size": 16}
        random = np.random.RandomState(1)
        v, o = random.randn(16, 16), random.randn(16, 32)
        new_v, new_o = reference_model.mix_value_channels(v, o, config, np.random.RandomState(0))
        x = random.randn(16)

        def attend(v, o):
            heads = (v @ x).reshape(2, 8)
            return o @ np.repeat(heads, 2, axis=0).reshape(-1)  # two query heads read each KV head

        self.assertGreater(np.abs(new_v - v).max(), 0.1)
        np.testing.assert_allclose(attend(new_v, new_o), attend(v, o), atol=1e-12)

    def test_bf16_rounds_to_nearest_even(self):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "a.safetensors"
            reference_model.write_bf16_safetensors(file, {"a": np.array([1.0, 1.00390625, 1.01171875], np.float32)})
            data = file.read_bytes()
            self.assertEqual(np.frombuffer(data[-6:], np.uint16).tolist(), [0x3F80, 0x3F80, 0x3F82])


if __name__ == "__main__":
    unittest.main()
