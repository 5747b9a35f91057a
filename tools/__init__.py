"""Commands for developers: generated files, scripts of other projects, the documentation site."""
