"""Network: encoders, decoders, and messages between modalities."""
