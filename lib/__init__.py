"""MDAL-CIML: which multimodal cases to label next, and a segmentation that learns from them."""

from pathlib import Path

VERSION = "0.1"
ROOT = Path(__file__).resolve().parent.parent  # of the program: what a process is given to find `lib`
