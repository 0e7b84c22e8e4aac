"""Whether choosing by modality difference saves labels: plans of runs, runs, statistics, tables."""
