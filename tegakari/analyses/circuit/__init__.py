"""Which attention and MLP blocks a prediction hangs on, by activation patching (the study, section 3)."""

from tegakari.analyses.circuit.run import KIND, circuit, stored_circuit

__all__ = ["KIND", "circuit", "stored_circuit"]
