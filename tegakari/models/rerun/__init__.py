"""Re-run a classifier from the middle: edited residuals, ablated features, patched components."""
