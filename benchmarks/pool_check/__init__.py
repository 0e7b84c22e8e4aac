"""The pool check: how many damaged cases does it catch, and how many sound cases does it flag?"""
