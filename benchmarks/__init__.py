"""One folder per subject, one script per question; README.md lists them. Rows are written to results/."""
