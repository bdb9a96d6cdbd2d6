"""What all records of a group agree on, and what each adds."""
