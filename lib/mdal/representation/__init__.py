"""Cases as small arrays, and encoders that give features at matched positions."""
