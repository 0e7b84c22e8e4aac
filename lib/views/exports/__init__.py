"""Files for people to keep: plans, labels, explanations, the report."""
