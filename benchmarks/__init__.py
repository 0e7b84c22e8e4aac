"""One script a question; each prints a table and writes a CSV under results/."""
