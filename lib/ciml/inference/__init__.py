"""Outlines of a case, how sure they are, and which modality contributed what."""
