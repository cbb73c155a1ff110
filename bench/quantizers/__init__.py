"""How bench/quality makes quantized models and judges them, and which."""
