"""The server: does it keep its word to annotators, survive kill -9, and answer in time?"""
