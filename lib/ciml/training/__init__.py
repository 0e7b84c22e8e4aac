"""Training on labelled cases, and its validation."""
