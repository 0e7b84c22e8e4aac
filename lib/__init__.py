"""MDAL-CIML: which multimodal cases to label next, and a segmentation that learns from them."""

VERSION = "0.1"
