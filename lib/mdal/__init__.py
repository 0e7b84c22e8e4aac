"""WHICH case next: modality difference as reconstructed from the abstract of MDAL (Wang et al. 2025)."""
