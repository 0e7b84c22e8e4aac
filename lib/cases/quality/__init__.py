"""The pool check: what is measured of a case, and the rules that hold it back."""
