"""What both sides run: the classifier with its hooks, sparse autoencoders and their file formats."""
