"""Directories of a store: layout, durable writes, publication, garbage collection."""
