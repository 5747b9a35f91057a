"""The demo, made offline: an invented corpus with planted clues, a tokenizer, and two tiny Gemma 2 models."""
