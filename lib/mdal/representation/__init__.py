"""Small views of the cases, and encoders that compute features at matched positions."""
