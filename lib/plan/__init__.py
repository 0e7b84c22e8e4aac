"""The plan of a pool: the order of its cases, their leases to annotators, and a record of events."""
