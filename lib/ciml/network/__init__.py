"""The network: encoders, decoders, and messages between modalities."""
