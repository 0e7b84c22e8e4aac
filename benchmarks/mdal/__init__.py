"""Which case next: the cost of scoring and selection, and the accuracy of the scores."""
