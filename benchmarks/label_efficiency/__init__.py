"""Label efficiency: does choosing cases by modality difference save labels?"""
