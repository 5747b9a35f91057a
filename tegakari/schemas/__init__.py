"""Structs that all packages share: configuration, tables, API messages, errors. Imports no other package."""
