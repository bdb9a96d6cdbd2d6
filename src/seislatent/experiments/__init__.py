"""What trains and judges many systems at once."""
