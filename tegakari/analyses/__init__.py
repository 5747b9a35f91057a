"""What is asked of a finished run with its model at hand."""
