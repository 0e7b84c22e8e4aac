"""Which case next: what scoring and selection cost, and whether the scores are true."""
