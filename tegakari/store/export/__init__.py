"""Export of runs as files of other tools."""
