"""From features to pointwise mutual information and the modality difference of each case."""
