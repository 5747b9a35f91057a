"""A small real case from nothing, offline: a corpus with planted clues, a tokenizer, and two tiny Gemma 2 models."""
