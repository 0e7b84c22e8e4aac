"""CIML against fusion and other networks: the protocols, the runs, and their report."""
