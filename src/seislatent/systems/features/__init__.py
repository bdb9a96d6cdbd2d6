"""Features: encoders that learn without labels, and heads that decide on what they see (Kong et al. 2021 and what came after)."""
