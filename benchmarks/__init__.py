"""One folder a subject, one script a question; README.md says which. Rows are written to results/."""
