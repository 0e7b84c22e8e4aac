"""Decomposition: expert knowledge of which modality is primary for which subtask."""
