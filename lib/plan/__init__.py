"""Who labels what, and when: the ordered plan, leases, and a record of what happened."""
