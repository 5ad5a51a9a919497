"""What users of cclm 0.1.2 type."""
