"""Selection: the order in which cases are labelled, computed from their scores."""
