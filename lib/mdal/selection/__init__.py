"""From scores to the order in which cases are labelled."""
