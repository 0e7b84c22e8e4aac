"""Whether choosing by modality difference saves labels."""
