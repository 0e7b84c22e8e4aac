"""Training on labelled cases, and the validation that judges it."""
