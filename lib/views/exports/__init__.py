"""Files that a person takes away: plans, labels, explanations, the report."""
