"""The server: does it give each case to one annotator only, survive kill -9, and answer in time?"""
