"""The DuckDB tables of a run: writing, views, queries, sandbox."""
