"""The pool check: measurements of each case, and the rules that quarantine it."""
