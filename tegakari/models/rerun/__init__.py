"""Forward passes that start in the middle of a classifier: edited residuals, ablated features, patched components."""
