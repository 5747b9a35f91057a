"""Circuit: the attention and MLP blocks that carry predictions, by activation patching (the study, section 3)."""

from tegakari.analyses.circuit.compute import circuit, stored_circuit

__all__ = ["circuit", "stored_circuit"]
