"""The expert's prior: which modality leads which subtask."""
