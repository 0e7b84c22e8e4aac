"""The pool check: how many damaged cases does it catch, how many sound ones does it flag?"""
