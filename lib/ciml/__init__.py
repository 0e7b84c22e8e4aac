"""CIML: complementary information mutual learning, as reconstructed from its abstract."""
