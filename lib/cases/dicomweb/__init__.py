"""Cases in a PACS that speaks DICOMweb."""
