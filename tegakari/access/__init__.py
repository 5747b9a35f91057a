"""The public Python API: stores, runs, labels, features and documents, of a directory or of a service.

`tegakari.open` and `tegakari.connect` give a `Store`; everything else is reached from it.
"""
